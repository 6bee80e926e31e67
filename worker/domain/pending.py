"""A pending call: a call of a tool that waits for a person or another program to decide about it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict

from worker.domain.fields import ANSWER, HIDDEN, ID, RunId, SessionId, TeamId, Time, UserId, field, in_place


class PendingKind(StrEnum):
    """What a pending call waits for."""

    CONFIRMATION = "confirmation"  # approved or rejected
    INPUT = "input"  # arguments that the model does not give
    EXTERNAL = "external"  # the result: the tool is executed elsewhere


class DecidedBy(StrEnum):
    """Who may decide."""

    USER = "user"  # the run's user, and every key that may write its runs
    OPERATOR = "operator"  # only keys with the scope `approvals`


class OnExpiry(StrEnum):
    """What becomes of a call without a decision in time."""

    REJECT = "reject"  # the model is told, and goes on
    FAIL = "fail"  # the run fails


class Verdict(StrEnum):
    """What was decided about a pending call."""

    APPROVE = "approve"
    REJECT = "reject"
    ANSWER = "answer"
    EXPIRED = "expired"  # no decision came in time
    CANCELLED = "cancelled"  # its run ended before


# What can be decided about a call of each kind.
VERDICTS = {
    PendingKind.CONFIRMATION: (Verdict.APPROVE, Verdict.REJECT),
    PendingKind.INPUT: (Verdict.ANSWER, Verdict.REJECT),
    PendingKind.EXTERNAL: (Verdict.ANSWER, Verdict.REJECT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCall:
    """A call that waits for a decision, and what was decided."""

    __pydantic_config__ = ANSWER

    id: Annotated[str, field("ID of the call.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80.12.0")]
    run_id: RunId
    team: TeamId
    session_id: SessionId
    user_id: UserId
    kind: Annotated[
        PendingKind,
        in_place(PendingKind),
        field("What it waits for: a confirmation, arguments, or its result.", "confirmation"),
    ]
    tool: Annotated[str, field("The tool that the model called.", "refund")]
    tool_call_id: Annotated[str, field("ID of the call in its messages.", "call_1")]
    arguments: Annotated[str, field("The arguments that the model gave, as JSON text.", '{"order": "7", "eur": 5}')]
    schema: Annotated[
        dict[str, Any], field("The JSON schema that other arguments, or those asked for, must fit.", {"type": "object"})
    ]
    fields: Annotated[list[str], field("Names of the arguments that are asked for.", ["address"], [])]
    author: Annotated[str, field("Leader or member that made the call.", "support")]
    delegation: Annotated[str | None, field("The delegation that it is part of.", "3.0", None)]
    decided_by: Annotated[
        DecidedBy, in_place(DecidedBy), field("Who may decide: 'operator' needs the scope 'approvals'.", "user")
    ]
    created_at: Annotated[Time, field("Since when it waits.")]
    expires_at: Annotated[Time | None, field("When it expires; null: never.")] = None
    decision: Annotated[
        Verdict | None, field("What was decided; null: nothing yet.", "approve", "reject", "answer", None)
    ] = None
    answer: Annotated[str | None, field("Other arguments, as JSON text, or the result.", '{"eur": 3}', None)] = None
    note: Annotated[str | None, field("Why it was rejected.", "too much", None)] = None
    key_id: Annotated[str | None, field("ID of the API key that decided.", "k_7Qd", None)] = None
    approver: Annotated[str | None, field("The person whom the deciding program named.", "ada@example.com", None)] = (
        None
    )
    decided_at: Annotated[Time | None, field("When it was decided.")] = None
    on_expiry: Annotated[OnExpiry, HIDDEN] = OnExpiry.REJECT

    @property
    def is_open(self) -> bool:
        """Whether nothing is decided yet."""
        return self.decision is None


ActionName = Literal["approve", "reject", "answer"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decides about a pending call."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: Annotated[str, field("ID of the call.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80.12.0", schema=ID)]
    action: Annotated[
        ActionName,
        field("'approve' makes the call, 'reject' does not, 'answer' gives what it asks for.", "approve"),
    ]
    arguments: Annotated[
        dict[str, Any] | None,
        field("Other arguments, all of them, to approve it with; or those that it asks for.", {"eur": 3}),
    ] = None
    result: Annotated[str | None, field("The result of a call that is executed elsewhere.", "3 rows")] = None
    note: Annotated[str | None, field("For the model: why it is rejected.", "too much")] = None


def pending_id(idempotency_key: str) -> str:
    """Return the id of a pending call for callers, from the idempotency key of the call: it names its run."""
    return idempotency_key.replace(":", ".")


def key_of(pending_id: str) -> str:
    """Return the idempotency key of a call from its id for callers."""
    return pending_id.replace(".", ":")


@dataclass(frozen=True, slots=True)
class Question:
    """What a call that becomes pending asks for."""

    kind: PendingKind
    schema: dict[str, Any]
    fields: tuple[str, ...]
    decided_by: DecidedBy
    on_expiry: OnExpiry
    expires_s: float | None  # None: never
    tool: str
    tool_call_id: str
    arguments: str
    author: str
    delegation: str | None
