"""Bodies, pages and answers about batches that are not dataclasses of `worker.domain.batch`; orders from bodies."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api_stub.schemas import Page, Texts
from worker.batches import accept, prices
from worker.domain import BatchRun, Principal, Usage, bounds, check_id, check_text, validate_time
from worker.domain import batch as domain
from worker.domain.fields import Time, field
from worker.errors import BatchInvalid
from worker.runs.enqueue import KnownTeams

MAX_ITEMS = 10_000  # in one request
Ids = Annotated[Texts | None, Field(max_length=MAX_ITEMS)]
LISTS = {
    domain.Kind.REFRESH_SUMMARIES: "session_ids",
    domain.Kind.REPLAY_RUNS: "run_ids",
    domain.Kind.RETRY_FAILED: "run_ids",
    domain.Kind.ENQUEUE_RUNS: "requests",
}


@dataclass(frozen=True, kw_only=True)
class ExplicitItems:
    """Items that the request lists, in the list that fits the kind of the batch."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    session_ids: Annotated[Ids, field("Sessions, for 'refresh_summaries'.", ["s-42", "s-43"])] = None
    run_ids: Annotated[
        Ids, field("Runs, for 'replay_runs' and 'retry_failed'.", ["run_019ab3c4d5e6f708192a3b4c5d6e7f80"])
    ] = None
    requests: Annotated[
        list[BatchRun] | None,
        Field(max_length=MAX_ITEMS),
        field("Runs to accept, for 'enqueue_runs'.", [{"custom_id": "row-17", "team": "support", "input": "Hello."}]),
    ] = None
    more: Annotated[bool, field("`POST …/items` adds more items; the batch begins after the last.", False)] = False


@dataclass(frozen=True, kw_only=True)
class MoreItems(ExplicitItems):
    """More items for a batch that was created with `more`."""

    first: Annotated[
        int | None,
        Field(ge=1, lt=2**31),
        field("Number of its first item: `items.planned` + 1. A repeated request then adds no item twice.", 10_001),
    ] = None


@dataclass(frozen=True, kw_only=True)
class BatchRequest(domain.BatchOptions, ExplicitItems):
    """A batch to be accepted. `select` finds its items, unless the request lists them."""

    dry_run: Annotated[bool, field("Only return what `select` finds and an estimate of the cost: 200.", False)] = False


class Resume(BaseModel, extra="forbid"):
    """How a batch resumes."""

    budget: Annotated[
        domain.Budget,
        field("The new budget in total, including what is used; null: unchanged.", {"tokens": 10_000_000}),
    ] = Field(default_factory=domain.Budget)


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
    select: domain.Selection = Field(description="Filter that found its items.")
    canary: str | None = field("Number or share of the items that come first.", "1%", None)
    window: int = field("The most items in flight.", 100)
    limits: domain.Limits = Field(description="The most per minute.")
    budget: domain.Budget = Field(description="The most in total.")
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
            status=batch.status,
            paused_by=batch.paused_by,
            items=Counts(planned=batch.planned, waiting=waiting, in_flight=batch.in_flight, ended=batch.ended, **ended),
            usage=batch.spent.usage,
            cost=round(batch.spent.cost, 6),
            items_per_second=round(batch.pace, 3),
            remaining_seconds=None if batch.remaining_s is None else round(batch.remaining_s, 1),
            error_code=batch.error_code,
            created_at=batch.created_at,
            started_at=batch.started_at,
            finished_at=batch.finished_at,
            **vars(order),
        )


class BatchPage(Page[Batch]):
    """A page of batches, newest first."""


class ItemPage(Page[domain.Item]):
    """A page of items, in their order."""


def batch_order(body: BatchRequest, *, prices_file: Path | None) -> domain.BatchOrder:
    """Return the order in a body, with the current prices.

    Raises:
        InvalidText, InvalidIdentifier, InvalidTime, ValueTooLarge, BatchInvalid
    """
    for name, value in asdict(body.select).items():
        if isinstance(value, str):
            bounds.check_name(value, field=name)
        elif isinstance(value, datetime):
            validate_time(value, field=name)
    if body.name is not None:
        check_id(body.name, field="name")
    return domain.BatchOrder(
        kind=body.kind,
        name=body.name,
        select=body.select,
        canary=body.canary,
        window=body.window,
        limits=body.limits,
        budget=body.budget,
        rebuild=body.rebuild,
        execute_tools=body.execute_tools,
        prices=prices.read(prices_file),
    )


def explicit_items(
    body: ExplicitItems, *, kind: domain.Kind, principal: Principal, known: KnownTeams
) -> accept.ExplicitItems | None:
    """Return the items that a body lists, of users that *principal* may act for; None: it lists none.

    Raises:
        BatchInvalid, InvalidText, InvalidIdentifier, UserForbidden, TeamForbidden, UnknownTeam
    """
    expected = LISTS[kind]
    sent = [name for name in ("session_ids", "run_ids", "requests") if getattr(body, name) is not None]
    if not sent:
        if body.more:
            raise BatchInvalid(field="'more'", problem=f"needs items: give {expected!r}")
        return None
    if sent != [expected]:
        problem = f"are listed as {' and '.join(map(repr, sent))}, but this kind takes {expected!r}"
        raise BatchInvalid(field="The items", problem=problem)
    if body.requests is not None:
        return accept.ExplicitItems(requests=_requests(body.requests, principal, known), more=body.more)
    ids = body.session_ids or body.run_ids
    if not ids:
        raise BatchInvalid(field=repr(expected), problem="is empty: list at least one, or leave it out")
    for id in ids:
        check_text(id, field=expected)
    return accept.ExplicitItems(ids=ids, more=body.more)


def _requests(runs: list[BatchRun], principal: Principal, known: KnownTeams) -> list[BatchRun]:
    """Return the runs with the users that *principal* acts for."""
    for run in runs:
        if run.custom_id is not None:
            check_id(run.custom_id, field="custom_id")
        principal.check_team(run.team)
    requests = [replace(run, user_id=principal.acting_for(run.user_id)) for run in runs]
    for team in {run.team for run in runs}:
        check_id(team, field="team")
        known.check(team)
    return requests
