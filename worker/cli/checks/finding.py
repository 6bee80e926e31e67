"""What a check is given to look at, and what it finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from worker.settings import Settings


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    SKIPPED = "skipped"  # it was not looked at, for the reason that is told
    WARNING = "warning"  # runs are executed, and something should be done
    FAILED = "failed"  # runs are not executed, or not safely


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `code` is stable, `detail` a sentence, `advice` what to do; no secret is in any of them."""

    level: Level
    code: str
    detail: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Installation:
    """What is looked at. `mistakes`: of the settings, by name; those stand at their defaults in *settings*."""

    settings: Settings
    mistakes: Mapping[str, str]
    environment: Mapping[str, str]
    flower_url: str | None = None

    def mistaken(self, *names: str) -> Finding | None:
        """Return why a check cannot look where one of the settings *names* is wrong."""
        wrong = [name for name in names if name in self.mistakes]
        return skipped(f"{wrong[0]} has a mistake.") if wrong else None


def ok(detail: str) -> Finding:
    """Return that all is well."""
    return Finding(Level.OK, "ok", detail)


def skipped(detail: str) -> Finding:
    """Return that it was not looked at."""
    return Finding(Level.SKIPPED, "skipped", detail)


def warning(code: str, detail: str, advice: str) -> Finding:
    """Return what should be mended."""
    return Finding(Level.WARNING, code, detail, advice)


def failed(code: str, detail: str, advice: str) -> Finding:
    """Return what has to be mended."""
    return Finding(Level.FAILED, code, detail, advice)
