"""A batch: one order over many sessions or runs. An item: one of them.

The fields describe themselves. `BatchOptions`, `Selection`, `Limits` and `Budget` are the body of a request, the JSON
of a row, and part of the answer. `Item`, `Result` and `Estimate` are answers of the API.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import field as default
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, WithJsonSchema

from worker.clock import rfc3339
from worker.domain.fields import ID, TEXT, check_rfc3339, field, in_place
from worker.domain.run import Failure
from worker.domain.usage import Usage

MAX_WINDOW = 1_000
MAX_INTEGER = 2**53  # every JSON reader keeps integers up to here exact
CANARY = re.compile(r"[1-9][0-9]{0,8}|(100|[1-9]?[0-9](\.[0-9]{1,4})?)%")
ItemStatus = Literal[
    "waiting", "queued", "running", "paused", "completed", "same", "changed", "diverged", "failed", "cancelled", "gone"
]
_CANARY = {"pattern": f"^({CANARY.pattern})$"}
_TIME = {"type": "string", "format": "date-time"}
Instant = Annotated[AwareDatetime, BeforeValidator(check_rfc3339), PlainSerializer(rfc3339, str), WithJsonSchema(_TIME)]
Count = Annotated[int | None, Field(ge=1, le=MAX_INTEGER)]


class Kind(StrEnum):
    """What is done to each item; `worker/batches/kinds.py` says how."""

    REFRESH_SUMMARIES = "refresh_summaries"
    REPLAY_RUNS = "replay_runs"
    RETRY_FAILED = "retry_failed"
    ENQUEUE_RUNS = "enqueue_runs"


class BatchStatus(StrEnum):
    """`created` while its items are being written → `running` ⇄ `paused` → `completed`, `cancelled`, `failed`.

    A batch is completed when every item has ended, with any outcome; failed if its items could not be written.
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
    """Why a batch is paused: on request, after its canary, or because its budget is used up."""

    REQUEST = "request"
    CANARY = "canary"
    BUDGET = "budget"


class ItemOutcome(StrEnum):
    """How an item ended. A completed replay ends as `same` or `changed`, by its output."""

    COMPLETED = "completed"
    SAME = "same"
    CHANGED = "changed"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GONE = "gone"  # its session was erased


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter of sessions or runs: those that meet all its conditions."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    team: Annotated[str | None, field("Only of this team.", "support", schema=TEXT)] = None
    team_version: Annotated[str | None, field("Runs of this version, or their sessions.", "3f2a9c", schema=TEXT)] = None
    user_id: Annotated[
        str | None,
        field("Only of this user, who may then see the batch; else of all that the key sees.", "u-7", schema=TEXT),
    ] = None
    tag: Annotated[str | None, field("In sessions with this tag.", "vip", schema=TEXT)] = None
    name: Annotated[str | None, field("In sessions of exactly this name.", "Parcels", schema=TEXT)] = None
    status: Annotated[
        Literal["completed", "failed", "cancelled"] | None,
        field("Runs with this status. The default depends on the kind: completed or failed.", "failed"),
    ] = None
    since: Annotated[Instant | None, field("Accepted or last active then or later.", "2026-01-01T00:00:00Z")] = None
    until: Annotated[Instant | None, field("Accepted or last active before then.", "2026-02-01T00:00:00Z")] = None
    summary_below: Annotated[
        int | None, Field(ge=1, lt=2**31), field("Sessions whose summary has a lower version, or none.", 2)
    ] = None
    summary_not_by: Annotated[
        str | None,
        field("Sessions without a summary, or with one by a prompt of another hash.", "9f86d081", schema=TEXT),
    ] = None


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
    """The most per minute; null: no limit."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    items_per_minute: Annotated[Count, field("Items that begin.", 60)] = None
    requests_per_minute: Annotated[Count, field("Requests to the model.", 300)] = None
    tokens_per_minute: Annotated[Count, field("Input and output tokens.", 200_000)] = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The most in total; null: no limit. A batch pauses when its budget is not enough for one more item."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    tokens: Annotated[Count, field("Input and output tokens.", 5_000_000)] = None
    cost: Annotated[
        float | None, Field(gt=0, le=MAX_INTEGER, strict=True), field("In the currency of TEAM_SESSIONS_PRICES.", 12.5)
    ] = None


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What a caller decides about a batch, apart from explicit items."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Annotated[
        Kind,
        in_place(Kind),
        field(
            "Each item: refresh a summary, replay a run in a fork, retry a failed run, or enqueue a run.",
            "refresh_summaries",
        ),
    ]
    name: Annotated[str | None, field("Name for people.", "prompt v2", schema=ID)] = None
    select: Annotated[Selection, field("Filter of the sessions or runs.", {"team": "support", "tag": "vip"})] = default(
        default_factory=Selection
    )
    canary: Annotated[
        str | None,
        field(
            "Number or share of the items after which the batch pauses until it is resumed.", "10", "1%", schema=_CANARY
        ),
    ] = None
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW), field("The most items in flight.", 100)] = 100
    limits: Annotated[Limits, field("The most per minute.", {"items_per_minute": 60})] = default(default_factory=Limits)
    budget: Annotated[Budget, field("The most in total.", {"tokens": 5_000_000})] = default(default_factory=Budget)
    rebuild: Annotated[bool, field("Make summaries from the first message.", False)] = False
    execute_tools: Annotated[bool, field("Replays execute tools instead of using the recorded results.", False)] = False


@dataclass(frozen=True, kw_only=True)
class BatchOrder(BatchOptions):
    """An accepted batch: its options, and what was decided when it was accepted.

    `prices` are by team; '*' is every other team. `explicit_items`: the caller lists the items, no filter finds them.
    """

    prices: Mapping[str, Price] = default(default_factory=dict)
    explicit_items: Annotated[bool, Field(alias="given")] = False

    def price_of(self, team: str) -> Price:
        """Return the prices for a team."""
        return self.prices.get(team) or self.prices.get("*") or Price()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a batch would be. Tokens are what the runs used before, or what refreshes read of the histories."""

    count: Annotated[int, field("Number of items.", 1_200)]
    sample: Annotated[list[str], field("IDs of the first items: sessions or runs.", ["s-42", "s-43"])]
    input_tokens: Annotated[int, field("Estimate: what the runs used before, or what summaries read.", 2_400_000)]
    output_tokens: Annotated[int, field("What the runs used before; 0 for summaries, which is unknown.", 0)]
    cost: Annotated[float | None, field("Cost of these tokens; null: no prices are set.", 3.75, None)]


@dataclass(frozen=True, slots=True)
class Spent:
    """What the ended items have used."""

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
    canary: int | None  # number of items, until it is approved
    error_code: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def in_flight(self) -> int:
        return self.fed - self.ended

    @property
    def remaining_s(self) -> float | None:
        """Seconds to its end at its pace; None: unknown."""
        return (self.planned - self.ended) / self.pace if self.pace > 0 and not self.status.terminal else None


@dataclass(frozen=True, kw_only=True)
class Item:
    """One unit of a batch. Its status is the current one of its run, or of its session's refresh."""

    number: Annotated[int, field("Position in its batch, from 1.", 17)]
    custom_id: Annotated[str | None, field("Your own ID of it.", "row-17", None)]
    session_id: Annotated[str | None, field("Its session.", "s-42", None)]
    user_id: Annotated[str | None, field("Its user.", "u-7", None)]
    source_run_id: Annotated[str | None, field("The run it repeats.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80", None)]
    run_id: Annotated[str | None, field("The run accepted for it.", "run_019ab3c4d5e6f708192a3b4c5d6e7f81", None)]
    status: Annotated[ItemStatus, field("'waiting' until it begins.", "completed")]
    tries: Annotated[int, field("How often it was begun.", 1)]
    attempts: Annotated[int | None, field("How often its run was claimed.", 1, None)]
    error: Failure
    version: Annotated[int | None, field("The summary version that it made.", 3, None)]
    usage: Annotated[Usage, Field(description="What its run used.")]


@dataclass(frozen=True, kw_only=True)
class Result(Item):
    """An item with the outputs of its runs."""

    old_output: Annotated[str | None, field("The answer of the run that it repeats.", "It is on its way.", None)]
    new_output: Annotated[str | None, field("The answer of the run accepted for it.", "It comes on Friday.", None)]


_ORDER = TypeAdapter(BatchOrder)


def order_to_json(order: BatchOrder) -> dict[str, Any]:
    """Return an order as the JSON of a row. There the budget is among the limits, as the first release wrote it.

    Processes of other releases read it, and hashes of it are stored: its names and values must not change.
    """
    row: dict[str, Any] = _ORDER.dump_python(order, mode="json", by_alias=True)
    budget = row.pop("budget")
    row["limits"] |= {"budget_tokens": budget["tokens"], "budget_cost": budget["cost"]}
    row["prices"] = {team: asdict(price) for team, price in order.prices.items()}  # pydantic would make 2 a 2.0
    return row


def order_from_json(row: Mapping[str, Any]) -> BatchOrder:
    """Return the order that `order_to_json` wrote."""
    limits = dict(row["limits"])
    budget = {"tokens": limits.pop("budget_tokens"), "cost": limits.pop("budget_cost")}
    return _ORDER.validate_python({**row, "limits": limits, "budget": budget})
