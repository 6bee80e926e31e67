"""What a check gets, and what it finds."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from worker.domain import Problem
from worker.settings import Settings
from worker.store import Database

URL_NAME = "TEAM_SESSIONS_URL"


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    SKIPPED = "skipped"  # not checked; the detail says why
    WARNING = "warning"  # runs are executed, but something should be done
    FAILED = "failed"  # runs are not executed, or not safely


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `code` is stable, `detail` is a sentence, `advice` says what to do. None of them has a secret."""

    level: Level
    code: str
    detail: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Installation:
    """What is checked. `mistakes` are those of the settings, by name; *settings* has their defaults instead."""

    settings: Settings
    mistakes: Mapping[str, str]
    environment: Mapping[str, str]
    flower_url: str | None = None

    @property
    def is_client(self) -> bool:
        """Whether this machine only talks to an API elsewhere: TEAM_SESSIONS_URL is set, and no database or broker."""
        settings = self.settings
        own = settings.database_url is not None or settings.redis_url is not None or settings.data_dir.exists()
        return bool(self.environment.get(URL_NAME)) and not own and not self.mistakes

    def mistaken(self, *names: str) -> Finding | None:
        """Return the finding of a check that needs the settings *names*, if one of them is wrong."""
        wrong = [name for name in names if name in self.mistakes]
        return skipped(f"{wrong[0]} has a mistake.") if wrong else None

    def open_database(self) -> closing[Database]:
        """Return a context manager that yields the database, with one connection."""
        return closing(Database(self.settings.database, pool_size=1))


# ok(detail), skipped(detail), warning(code, detail, advice), failed(code, detail, advice)
ok, skipped = partial(Finding, Level.OK, "ok"), partial(Finding, Level.SKIPPED, "skipped")
warning, failed = partial(Finding, Level.WARNING), partial(Finding, Level.FAILED)


# The finding about a part that only workers and the API use.
CLIENT = skipped(f"This machine has no database and no broker: it uses the API at {URL_NAME}. Run doctor there.")


def has(problem: Problem) -> Finding:
    """Return that a part has a known problem."""
    return failed(problem.code, problem.sentence, problem.advice)
