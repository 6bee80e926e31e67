"""Bodies, pages and answers about batches that are not dataclasses of `worker.domain.batch`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api_stub.schemas import NextCursor
from worker.domain import BatchRun, Budget, Item, Limits, Selection, Usage
from worker.domain import batch as domain
from worker.domain.fields import TEXT, Time, field

MAX_ITEMS = 10_000  # in one request
Ids = list[Annotated[str, WithJsonSchema({"type": "string"} | TEXT)]]


@dataclass(frozen=True, kw_only=True)
class ExplicitItems:
    """Items that the request lists, in the list that fits the kind of the batch."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    session_ids: Annotated[
        Ids | None, Field(max_length=MAX_ITEMS), field("Sessions, for 'refresh_summaries'.", ["s-42", "s-43"])
    ] = None
    run_ids: Annotated[
        Ids | None,
        Field(max_length=MAX_ITEMS),
        field("Runs, for 'replay_runs' and 'retry_failed'.", ["run_019ab3c4d5e6f708192a3b4c5d6e7f80"]),
    ] = None
    requests: Annotated[
        list[BatchRun] | None,
        Field(max_length=MAX_ITEMS),
        field("Runs to accept, for 'enqueue_runs'.", [{"custom_id": "row-17", "team": "support", "input": "Hello."}]),
    ] = None
    more: Annotated[bool, field("`POST …/items` adds more items later; the batch begins after the last.", False)] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class MoreItems(ExplicitItems):
    """More items for a batch that was created with `more`."""

    first: Annotated[
        int | None,
        Field(ge=1, lt=2**31),
        field(
            "The number of its first item: `items.planned` + 1. With it, a repeated request adds no item twice.", 10_001
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class BatchRequest(domain.BatchOptions, ExplicitItems):
    """A batch to be accepted. `select` finds its items, unless the request lists them."""

    dry_run: Annotated[bool, field("Only return what `select` finds and an estimate of the cost: 200.", False)] = False


class Resume(BaseModel):
    """How a batch resumes."""

    model_config = ConfigDict(extra="forbid")

    budget: Budget = Field(
        default_factory=Budget,
        description="The new budget in total, including what is used; null: unchanged.",
        examples=[{"tokens": 10_000_000}],
    )


class Counts(BaseModel):
    """Numbers of items."""

    planned: int = field("Found until now; all items, once the batch runs.", 1_200)
    waiting: int = field("Not begun.", 700)
    in_flight: int = field("Begun, not ended.", 100)
    ended: int = field("Ended: the sum of the numbers below.", 400)
    completed: int = field("Completed. Replays count as one of the next three:", 398)
    same: int = field("the same output as before,", 0)
    changed: int = field("another output,", 0)
    diverged: int = field("a tool call that was not recorded.", 0)
    failed: int = field("Failed; their error says why.", 2)
    cancelled: int = field("Their run was cancelled.", 0)
    gone: int = field("Their session was erased.", 0)


class Batch(BaseModel):
    """One order over many sessions or runs."""

    id: str = field("ID of the batch. IDs sort by creation time.", "batch_019ab3c4d5e6f708192a3b4c5d6e7f80")
    kind: domain.Kind = field("What happens to each item.", "refresh_summaries")
    name: str | None = field("Name for people.", "prompt v2", None)
    status: domain.BatchStatus = field("'created' until all items are known; the last three are terminal.", "running")
    paused_by: domain.PausedBy | None = field("Why it is paused.", "canary", None)
    select: Selection = Field(description="Filter that found its items.")
    canary: str | None = field("Number or share of the items that come first.", "1%", None)
    window: int = field("The most items in flight.", 100)
    limits: Limits = Field(description="The most per minute.")
    budget: Budget = Field(description="The most in total.")
    rebuild: bool = field("Whether summaries are made from the first message.", False)
    execute_tools: bool = field("Whether replays execute tools.", False)
    items: Counts = Field(description="Numbers of its items.")
    usage: Usage = Field(description="What its ended items used.")
    cost: float = field("Cost of the usage; 0 if no prices are set.", 1.25)
    items_per_second: float = field("Items that ended per second, recently.", 12.5)
    remaining_seconds: float | None = field("Seconds to its end at this rate; null: unknown.", 64.0, None)
    error_code: str | None = field("Why it failed, once failed.", "internal", None)
    created_at: Time = Field(description="When it was accepted.")
    started_at: Time | None = Field(description="When its first item began.")
    finished_at: Time | None = Field(description="When its last item in flight had ended.")

    @classmethod
    def of(cls, batch: domain.Batch) -> "Batch":
        order, waiting = batch.order, batch.planned - batch.fed
        ended = {outcome.value: batch.outcomes.get(outcome.value, 0) for outcome in domain.ItemOutcome}
        return cls.model_construct(
            id=batch.id,
            kind=order.kind,
            name=order.name,
            status=batch.status,
            paused_by=batch.paused_by,
            select=order.select,
            canary=order.canary,
            window=order.window,
            limits=order.limits,
            budget=order.budget,
            rebuild=order.rebuild,
            execute_tools=order.execute_tools,
            items=Counts(planned=batch.planned, waiting=waiting, in_flight=batch.in_flight, ended=batch.ended, **ended),
            usage=batch.spent.usage,
            cost=round(batch.spent.cost, 6),
            items_per_second=round(batch.pace, 3),
            remaining_seconds=None if batch.remaining_s is None else round(batch.remaining_s, 1),
            error_code=batch.error_code,
            created_at=batch.created_at,
            started_at=batch.started_at,
            finished_at=batch.finished_at,
        )


class BatchPage(BaseModel):
    """A page of batches, newest first."""

    data: list[Batch] = Field(description="The batches.")
    next_cursor: NextCursor


class ItemPage(BaseModel):
    """A page of items, in their order."""

    data: list[Item] = Field(description="The items.")
    next_cursor: NextCursor
