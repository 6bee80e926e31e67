"""The outcome of a delivery, as a value and as the text that Flower shows.

A delivery is an attempt of a run or a refresh of a summary. Its Celery task returns the text as its result, Celery's
events carry the text, and our Flower process parses it.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class End(StrEnum):
    """The ways in which a delivery ends. The text of an outcome begins with the value, except for `REFRESHED`."""

    # The run is terminal.
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    # Another attempt continues the run.
    WAITS = "waits"
    PAUSED = "paused"  # once its pending calls are decided
    HANDED_OVER = "handed over"
    LEASE_LOST = "lease lost"
    DATABASE_UNAVAILABLE = "database unavailable"
    # An isolated process executed the run. The run's status says how it ended.
    ISOLATED = "apart"
    # The delivery claimed nothing.
    GONE = "Gone"  # the run was removed
    NOT_HEAD = "NotHead"  # the run has ended, or an earlier run of its session has not
    OTHER_TEAM = "OtherTeam"  # the message names another team than that of the run or the session
    NOT_FREE = "NotFree"  # another process holds the lease, or the run waits until a time
    PUT_BACK = "PutBack"  # this worker does not serve the team, or is stopping
    DATABASE_AWAY = "DatabaseAway"  # the database was unavailable before the claim
    NO_SLOT = "no free slot"
    NO_PROCESS = "no room for a process of its own"  # no isolated process is free
    # Only a refresh of a summary ends in these ways.
    REFRESHED = "new"  # the text begins with the number of new versions: "2 new"
    NOTHING_TO_CONDENSE = "nothing to condense"
    NOTHING_TO_DO = "nothing to do"
    NOT_SERVED = "not served"
    STOPPING = "stopping"
    DEADLINE = "deadline"
    OVERTAKEN = "overtaken"  # another process has the job, or has stored a version
    SESSION_GONE = "gone"  # the session was removed


NOT_CLAIMED = frozenset(
    {End.GONE, End.NOT_HEAD, End.OTHER_TEAM, End.NOT_FREE, End.PUT_BACK, End.DATABASE_AWAY, End.NO_SLOT, End.NO_PROCESS}
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended. `detail` is an error code, an exit code, or the number of new versions.

    `attempt` is the attempt of the run that it executed, for the log. `cause` is the error of the user's code that
    ended it, for a caller in the same process.
    """

    end: End
    detail: str | None = None
    attempt: int | None = field(default=None, compare=False)
    cause: BaseException | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        if self.end is End.REFRESHED:
            return f"{self.detail} {self.end}"
        return self.end.value if self.detail is None else f"{self.end}: {self.detail}"


def parse_outcome(text: str) -> Outcome | None:
    """Parse the text of an outcome. Return None for any other text, and for a `REFRESHED` outcome."""
    end, _, detail = text.partition(": ")
    return Outcome(End(end), detail or None) if end in {*End} else None
