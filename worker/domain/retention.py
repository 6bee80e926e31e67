"""How long things are kept: what a team says of it, and what comes of that with the settings."""

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

    None: as the settings say. `math.inf` days: for ever, whatever they say. A session goes whole, so many days after
    its last activity; a run with its messages, so many days after its end, the oldest first.
    """

    sessions_days: float | None = None
    runs_days: float | None = None
    stream_seconds: int | None = None
    summary_versions: int | None = None

    def mistakes(self) -> list[str]:
        """Return a sentence for each value that cannot be meant."""
        least = {"sessions_days": 0, "runs_days": 0, "stream_seconds": STREAM_S, "summary_versions": 1}
        said = ((name, getattr(self, name)) for name in least)
        return [
            f"retention.{name} is {number}; expected {'more than 0' if not least[name] else f'{least[name]} or more'}"
            for name, number in said
            if number is not None and not (number > 0 and number >= least[name])
        ]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What holds for a team: seconds after the last activity of a session, and after the end of a run. None: for ever.

    `stream_s` is how long a stream is kept after its last event, `versions` how many versions of a summary are.
    """

    sessions_s: float | None
    runs_s: float | None
    stream_s: int
    versions: int

    @property
    def for_ever(self) -> bool:
        return self.sessions_s is None and self.runs_s is None


def lifetimes(said: Retention, settings: Settings) -> Lifetimes:
    """Return what holds for a team that has *said* so; the settings say the rest."""
    return Lifetimes(
        sessions_s=_seconds(settings.keep_sessions_days if said.sessions_days is None else said.sessions_days),
        runs_s=_seconds(settings.keep_runs_days if said.runs_days is None else said.runs_days),
        stream_s=settings.stream_seconds if said.stream_seconds is None else said.stream_seconds,
        versions=settings.summary_versions if said.summary_versions is None else said.summary_versions,
    )


def longest(of: Sequence[Lifetimes]) -> Lifetimes:
    """Return the longest of each: where two versions of a team are served, nothing goes that one of them keeps."""
    return Lifetimes(
        sessions_s=_longest([one.sessions_s for one in of]),
        runs_s=_longest([one.runs_s for one in of]),
        stream_s=max(one.stream_s for one in of),
        versions=max(one.versions for one in of),
    )


def to_json(said: Retention) -> dict[str, Any]:
    """Return what a team says as an object for JSON, which has no word for infinity."""
    return {name: FOR_EVER if value == inf else value for name, value in asdict(said).items()}


def from_json(said: dict[str, Any]) -> Retention:
    """Return what `to_json` has written; what a newer version has added is left out."""
    values: dict[str, Any] = {name: said.get(name) for name in Retention.__dataclass_fields__}
    values |= {name: inf for name, value in values.items() if value == FOR_EVER}
    return Retention(**values)


def _seconds(days: float | None) -> float | None:
    return None if days is None or days == inf else days * DAY_S


def _longest(seconds: Sequence[float | None]) -> float | None:
    return None if None in seconds else max(one for one in seconds if one is not None)
