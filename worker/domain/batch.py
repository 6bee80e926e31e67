"""A batch: one order over many sessions or runs. An item: one of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from worker.clock import rfc3339
from worker.domain.usage import Usage


class Kind(StrEnum):
    """What is done to each item; `worker/batches/kinds.py` says how."""

    REFRESH_SUMMARIES = "refresh_summaries"
    REPLAY_RUNS = "replay_runs"
    RETRY_FAILED = "retry_failed"
    ENQUEUE_RUNS = "enqueue_runs"


class BatchStatus(StrEnum):
    """`created` while its items are still written down → `running` ⇄ `paused` → `completed`, `cancelled`, `failed`.

    A batch is completed when every item has ended, however; failed when its items could not be written down.
    """

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        return self in (BatchStatus.COMPLETED, BatchStatus.CANCELLED, BatchStatus.FAILED)


class PausedBy(StrEnum):
    """Why a batch is paused: somebody asked, its canary has ended, or its budget is used up."""

    REQUEST = "request"
    CANARY = "canary"
    BUDGET = "budget"


class Outcome(StrEnum):
    """How an item ended. Of a replay `completed` is told as what it found: `same` or `changed`."""

    COMPLETED = "completed"
    SAME = "same"
    CHANGED = "changed"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GONE = "gone"  # its session was erased


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions or runs, by filters that all have to be met; None or empty: any.

    Times are of a session's last activity, or of a run's acceptance: from `since` on, before `until`.
    """

    team: str | None = None
    team_version: str | None = None  # of the definition that executed the run, or any run of the session
    user_id: str | None = None
    tag: str | None = None
    name: str | None = None
    status: str | None = None  # of runs
    since: datetime | None = None
    until: datetime | None = None
    summary_below: int | None = None  # sessions whose summary has a lower version, or none
    summary_not_by: str | None = None  # sessions whose summary was made by another prompt than that of this hash


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in the owner's currency."""

    input: float = 0.0
    cached_input: float = 0.0
    output: float = 0.0

    def of(self, usage: Usage) -> float:
        """Return what *usage* costs. Cached tokens are among the input tokens."""
        fresh = usage.input_tokens - usage.cached_input_tokens
        paid = fresh * self.input + usage.cached_input_tokens * self.cached_input + usage.output_tokens * self.output
        return paid / 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """At most so much a minute, and in all; None: any. A batch pauses when what it may spend in all is used up."""

    items_per_minute: int | None = None
    requests_per_minute: int | None = None  # of the model
    tokens_per_minute: int | None = None
    budget_tokens: int | None = None
    budget_cost: float | None = None


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """What a caller asks for. `canary`: so many items first, then it waits for a yes; `window`: items at a time.

    `prices` are by team, '*' for every other one. `given`: its items are named one by one, and no filter finds them.
    `rebuild`: summaries are made anew from the first message on.
    """

    kind: Kind
    select: Selection = Selection()
    name: str | None = None
    canary: str | None = None  # '10' items or '1%' of them
    window: int = 100
    limits: Limits = Limits()
    prices: Mapping[str, Price] = field(default_factory=dict)
    given: bool = False
    rebuild: bool = False
    execute_tools: bool = False

    def price_of(self, team: str) -> Price:
        """Return the prices for a team."""
        return self.prices.get(team) or self.prices.get("*") or Price()


@dataclass(frozen=True, slots=True)
class Spent:
    """What the items that have ended have used."""

    usage: Usage = Usage()
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as a caller sees it. `planned`, `fed`, `ended` count items; `pace` is items a second, lately."""

    id: str
    order: BatchOrder
    status: BatchStatus
    paused_by: PausedBy | None
    planned: int
    fed: int
    ended: int
    outcomes: Mapping[str, int]
    spent: Spent
    pace: float
    canary: int | None  # items of it, until somebody has said yes
    error_code: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def in_flight(self) -> int:
        return self.fed - self.ended

    @property
    def remaining_s(self) -> float | None:
        """Seconds to its end at its pace; None: nobody can tell."""
        return (self.planned - self.ended) / self.pace if self.pace > 0 and not self.status.terminal else None


@dataclass(frozen=True, slots=True)
class Item:
    """One unit of a batch. `run_id` is the run that was made for it, `source_run_id` the one that it repeats.

    Its status, error and attempts are those of its run, or of its session's refresh, whenever they are read. `tries`
    is how often it was begun, `attempts` how often its run was claimed.
    """

    number: int
    custom_id: str | None
    session_id: str | None
    user_id: str | None
    source_run_id: str | None
    run_id: str | None
    status: str  # waiting, queued, running, or an Outcome
    tries: int
    attempts: int | None
    error_code: str | None
    error_message: str | None
    version: int | None  # of the summary that it made
    old_output: str | None = None
    new_output: str | None = None
    usage: Usage = Usage()


def order_to_json(order: BatchOrder) -> dict[str, Any]:
    """Return an order as an object for JSON."""
    said = asdict(order)
    times = {name: at and rfc3339(at) for name, at in said["select"].items() if name in ("since", "until")}
    return said | {"select": said["select"] | times}


def order_from_json(said: Mapping[str, Any]) -> BatchOrder:
    """Return the order that `order_to_json` has written."""
    select = dict(said["select"])
    for name in ("since", "until"):
        select[name] = select[name] and datetime.fromisoformat(select[name])
    return BatchOrder(
        **{
            **said,
            "kind": Kind(said["kind"]),
            "select": Selection(**select),
            "limits": Limits(**said["limits"]),
            "prices": {team: Price(**price) for team, price in said["prices"].items()},
        }
    )
