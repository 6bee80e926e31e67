"""A run: one input and everything done to answer it."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from worker.domain.fields import ANSWER, HIDDEN, Metadata, RunId, SessionId, TeamId, Time, UserId, field
from worker.domain.message import Message
from worker.domain.pending import PendingCall
from worker.domain.run_options import NO_OPTIONS, RunOptions
from worker.domain.usage import Usage
from worker.errors import ValueTooLarge


class Status(StrEnum):
    """`queued` → `running` → one of the terminal three, which never changes.

    A run that waits for decisions is `paused` in between, and then `queued` again. Its row stays `queued` with a time
    that never comes, and says since when it is paused: so workers and APIs of older versions leave it alone.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class Priority(StrEnum):
    """Which workers execute a run: those of the queue `runs`, or of `batch`, for runs that no user waits for."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"


class OnBusy(StrEnum):
    """What becomes of a run that is enqueued while its session has an unfinished one. The user's text is never lost."""

    ENQUEUE = "enqueue"  # it waits its turn
    REJECT = "reject"  # it is refused
    INTERRUPT = "interrupt"  # the head is cancelled, and keeps what it wrote
    ROLLBACK = "rollback"  # the head is cancelled, and left out of later contexts and summaries
    COALESCE = "coalesce"  # its input joins the newest queued run of its kind, never claimed; else it waits its turn
    PASS = "pass"  # noqa: S105 - it goes before the queued runs that wait for their `not_before`


OnBusyName = Literal["enqueue", "reject", "interrupt", "rollback", "coalesce", "pass"]
PriorityName = Literal["interactive", "background"]


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed."""

    code: Annotated[str, field("A stable code. The handbook lists all codes.", "model_refused")]
    message: Annotated[str, field("A sentence without message text.", "Model 'm' refused the request: 400.")]


Failure = Annotated[RunError | None, field("Why it failed.", {"code": "model_refused", "message": "…"}, None)]


@dataclass(frozen=True, slots=True)
class Replay:
    """That a run repeats the run `of` in a fork of its session, with the same past and the recorded tool results.

    `execute_tools`: tools are executed instead.
    """

    of: str
    execute_tools: bool = False


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """The past that a run sees: what comes before this position and this message of a session.

    `at`: of a replay, when the run that it repeats was first claimed; None: now.
    """

    session_pk: int
    position: int
    first_seq: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunTrace:
    """The trace context of a run's acceptance. `traceparent` None: it was not traced."""

    run_id: str
    session_id: str
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One input and everything done to answer it."""

    __pydantic_config__ = ANSWER

    id: RunId
    team: TeamId
    session_id: SessionId
    user_id: UserId
    status: Annotated[Status, field("A terminal status (the last three) never changes.", "completed")] = Status.QUEUED
    position: Annotated[int, field("Position in its session, from 1.", 3)]
    attempt: Annotated[int, field("Times it was claimed: more than 1 after a crash, a hand-over or a retry.", 1)] = 0
    team_version: Annotated[
        str | None,
        field("Version of the team's definition in its latest attempt; null: it was never claimed.", "3f2a9c", None),
    ] = None
    input: Annotated[str, field("The user's text.", "My parcel has not come. What now?")]
    output: Annotated[str | None, field("The final answer, once completed.", "I have opened a ticket.", None)] = None
    parsed: Annotated[
        Any, field("Its output as JSON, if an `output_schema` was asked for; else null.", {"category": "parcel"}, None)
    ] = None
    error: Failure = None
    usage: Annotated[Usage, field("Model usage until now.")] = Usage()
    retry_of: Annotated[str | None, field("The run it repeats.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80", None)] = None
    metadata: Metadata
    created_at: Annotated[Time, field("When it was accepted.")]
    started_at: Annotated[Time | None, field("When it was first claimed.")] = None
    finished_at: Annotated[Time | None, field("When it ended.")] = None
    finish_reason: Annotated[
        str | None,
        field(
            "Of a completed run: `stop`, or `length` if the model's limit of output tokens cut its answer off.", "stop"
        ),
    ] = None
    pending: Annotated[
        list[PendingCall], field("Calls of its tools that wait for a decision; those of an ended run wait for none.")
    ] = dataclasses.field(default_factory=list)
    fence: Annotated[int, HIDDEN] = 0
    priority: Annotated[Priority, HIDDEN] = Priority.INTERACTIVE
    timeout_s: Annotated[float | None, HIDDEN] = None
    replay: Annotated[Replay | None, HIDDEN] = None
    options: Annotated[RunOptions, HIDDEN] = NO_OPTIONS
    needs: Annotated[int, HIDDEN] = 0  # the least contract of a worker that can execute it


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one process to execute a run, and what it needs to do so.

    Every write names `run_id` and `fence`. Once another process has claimed the run, its fence is higher and the write
    is refused. `first_seq` is the seq of the input, `last_seq` that of the last written message. `elapsed_s` counts
    from the first claim; the run may take `timeout_s`. `claimed_at` is the database's time. `retries` counts model
    failures in a row. `state` is the session's state. `log` has the run's messages, its input first.
    """

    run_id: str
    session_pk: int
    session_id: str
    user_id: str
    team: str
    position: int
    priority: Priority
    input: str
    fence: int
    attempt: int
    retries: int
    losses: int  # claims in a row that ended with an expired lease and no new message
    first_seq: int
    last_seq: int
    usage: Usage
    created_at: datetime
    claimed_at: datetime
    lease_until: datetime
    elapsed_s: float
    timeout_s: float | None
    cancel_requested: bool
    state: dict[str, Any]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: RunOptions = NO_OPTIONS
    needs: int = 0  # the least contract of a worker that can execute it
    refused: ValueTooLarge | None = None  # why its session_state was not set: the session's would be too large
    replay: Replay | None = None
    traceparent: str | None = None
    log: tuple[Message, ...] = ()
