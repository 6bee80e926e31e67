"""How long things are kept: as a team says, and otherwise as the settings say."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from worker.settings import Settings

DAY_S = 86_400.0
FOR_EVER = "for ever"
STREAM_S = 10  # a shorter stream would end between two events


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a team's sessions, runs and streams are kept, and how many versions of a summary.

    None: as the settings say. `math.inf` days: forever. A session is removed whole after this many days without
    activity. A run is removed with its messages this many days after its end, oldest first.
    """

    sessions_days: float | None = None
    runs_days: float | None = None
    stream_seconds: int | None = None
    summary_versions: int | None = None

    def mistakes(self) -> list[str]:
        """Return a sentence for each invalid value."""
        least = {"sessions_days": 0, "runs_days": 0, "stream_seconds": STREAM_S, "summary_versions": 1}
        return [
            f"retention.{name} is {number}; expected {f'{minimum} or more' if minimum else 'more than 0'}"
            for name, minimum in least.items()
            if (number := getattr(self, name)) is not None and not (number > 0 and number >= minimum)
        ]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What applies to a team: seconds after the last activity of a session, and after the end of a run. None: forever.

    `stream_s` is how long a stream is kept after its last event, `versions` how many versions of a summary are kept.
    """

    sessions_s: float | None
    runs_s: float | None
    stream_s: int
    versions: int

    @property
    def keeps_all(self) -> bool:
        return self.sessions_s is None and self.runs_s is None


def lifetimes(own: Retention, settings: Settings) -> Lifetimes:
    """Return what applies to a team with its *own* values; the settings supply the rest."""
    return Lifetimes(
        sessions_s=_seconds(settings.keep_sessions_days if own.sessions_days is None else own.sessions_days),
        runs_s=_seconds(settings.keep_runs_days if own.runs_days is None else own.runs_days),
        stream_s=settings.stream_seconds if own.stream_seconds is None else own.stream_seconds,
        versions=settings.summary_versions if own.summary_versions is None else own.summary_versions,
    )


def longest(candidates: Sequence[Lifetimes]) -> Lifetimes:
    """Return the longest of each: while two versions of a team are served, what one of them keeps stays."""
    return Lifetimes(
        sessions_s=_longest([kept.sessions_s for kept in candidates]),
        runs_s=_longest([kept.runs_s for kept in candidates]),
        stream_s=max(kept.stream_s for kept in candidates),
        versions=max(kept.versions for kept in candidates),
    )


def to_json(retention: Retention) -> dict[str, Any]:
    """Return an object for JSON, which cannot express infinity."""
    return {name: FOR_EVER if value == inf else value for name, value in asdict(retention).items()}


def from_json(stored: dict[str, Any]) -> Retention:
    """Return what `to_json` wrote; fields that a newer version added are ignored."""
    values: dict[str, Any] = {name: stored.get(name) for name in Retention.__dataclass_fields__}
    values |= {name: inf for name, value in values.items() if value == FOR_EVER}
    return Retention(**values)


def _seconds(days: float | None) -> float | None:
    return None if days is None or days == inf else days * DAY_S


def _longest(seconds: Sequence[float | None]) -> float | None:
    return None if None in seconds else max(value for value in seconds if value is not None)
