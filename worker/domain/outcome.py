"""How a delivery ended: an attempt of a run, or a refresh of a summary. As a value, and as the text that Flower shows.

The tasks return the text, Celery's events carry it, and the process of Flower parses it again.
"""

from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """The ways in which a delivery ends. The value is the beginning of the text."""

    # The run is terminal.
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    # Another attempt continues the run.
    WAITS = "waits"
    HANDED_OVER = "handed over"
    LEASE_LOST = "lease lost"
    DATABASE_UNAVAILABLE = "database unavailable"
    ISOLATED = "apart"
    # The delivery claimed nothing.
    GONE = "Gone"
    NOT_HEAD = "NotHead"
    NOT_FREE = "NotFree"
    PUT_BACK = "PutBack"
    DATABASE_AWAY = "DatabaseAway"
    NO_SLOT = "no free slot"
    NO_PROCESS = "no room for a process of its own"
    # A refresh of a summary, besides some of the above.
    REFRESHED = "new"
    NOTHING_TO_CONDENSE = "nothing to condense"
    NOTHING_TO_DO = "nothing to do"
    NOT_SERVED = "not served"
    STOPPING = "stopping"
    DEADLINE = "deadline"
    OVERTAKEN = "overtaken"
    SESSION_GONE = "gone"


NOT_CLAIMED = frozenset(
    {End.GONE, End.NOT_HEAD, End.NOT_FREE, End.PUT_BACK, End.DATABASE_AWAY, End.NO_SLOT, End.NO_PROCESS}
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended. `detail` is the code of the error, if there is one, or a number."""

    end: End
    detail: str | None = None

    def __str__(self) -> str:
        if self.end is End.REFRESHED:
            return f"{self.detail} {self.end}"
        return self.end.value if self.detail is None else f"{self.end}: {self.detail}"


def parse_outcome(text: str) -> Outcome | None:
    """Return the outcome of a run that `str` has formatted; None: the text is none."""
    end, _, detail = text.partition(": ")
    return Outcome(End(end), detail or None) if end in {*End} else None
