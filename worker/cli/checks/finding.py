"""What a check gets, and what it finds."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from worker.domain import Problem
from worker.settings import Settings
from worker.store import Database


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


def has(problem: Problem) -> Finding:
    """Return that a part has a known problem."""
    return failed(problem.code, problem.sentence, problem.advice)
