"""What goes in and out about batches, field by field; the other nouns stand in `schemas`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from api_stub.schemas import NextCursor
from worker.batches.accept import CANARY, MAX_WINDOW
from worker.clock import rfc3339
from worker.domain import batch as batches
from worker.domain.fields import ID, INPUT, TEXT, Metadata, Time, check_rfc3339, field
from worker.domain.run import OnBusyName, RunError
from worker.domain.usage import Usage

AT_ONCE = 10_000  # items that one request may name
MOST = 2**53  # an integer that every JSON reader keeps
KindName = Literal["refresh_summaries", "replay_runs", "retry_failed", "enqueue_runs"]
EndedName = Literal["completed", "failed", "cancelled"]
ItemStatus = Literal[
    "waiting", "queued", "running", "completed", "same", "changed", "diverged", "failed", "cancelled", "gone"
]
Ids = list[Annotated[str, WithJsonSchema({"type": "string"} | TEXT)]]
_TIME = {"type": "string", "format": "date-time"}
Instant = Annotated[AwareDatetime, BeforeValidator(check_rfc3339), PlainSerializer(rfc3339, str), WithJsonSchema(_TIME)]
Whole = Annotated[int | None, Field(ge=1, le=MOST)]


class Selection(BaseModel):
    """Which sessions or runs: those that meet every filter that is given."""

    model_config = ConfigDict(extra="forbid")

    team: str | None = Field(None, description="Of this team.", examples=["support"], json_schema_extra=TEXT)
    team_version: str | None = Field(
        None,
        description="Runs that this version of its definition executed, or sessions with such a run.",
        examples=["3f2a9c"],
        json_schema_extra=TEXT,
    )
    user_id: str | None = Field(
        None,
        description="Of this user, who may then see the batch; without it, of every user that the key may see.",
        examples=["u-7"],
        json_schema_extra=TEXT,
    )
    tag: str | None = Field(None, description="In sessions with this tag.", examples=["vip"], json_schema_extra=TEXT)
    name: str | None = Field(
        None, description="In sessions of exactly this name.", examples=["Parcels"], json_schema_extra=TEXT
    )
    status: EndedName | None = Field(
        None, description="Runs that ended so; without it, those that the kind is about.", examples=["failed"]
    )
    since: Instant | None = Field(
        None,
        description="Runs accepted, or sessions last active, at this time or later.",
        examples=["2026-01-01T00:00:00Z"],
    )
    until: Instant | None = Field(None, description="The same, before this time.", examples=["2026-02-01T00:00:00Z"])
    summary_below: int | None = Field(
        None, ge=1, lt=2**31, description="Sessions whose summary has a lower version, or none.", examples=[2]
    )
    summary_not_by: str | None = Field(
        None,
        description="Sessions whose summary was made with another prompt than that of this hash, or that have none.",
        examples=["9f86d081"],
        json_schema_extra=TEXT,
    )


class BatchRun(BaseModel):
    """A run of a batch of kind 'enqueue_runs'. The fields mean what they mean for `POST /v1/runs`."""

    model_config = ConfigDict(extra="forbid")

    custom_id: str | None = Field(
        None, description="Your name for it, once in its batch.", examples=["row-17"], json_schema_extra=ID
    )
    team: str = Field(description="Id of a team that some worker serves.", examples=["support"], json_schema_extra=ID)
    input: str = Field(description="What the user says; not blank.", examples=["Hello."], json_schema_extra=INPUT)
    session_id: str | None = Field(
        None,
        description="The session that it continues; without it, a new one.",
        examples=["s-42"],
        json_schema_extra=ID,
    )
    user_id: str | None = Field(
        None,
        description="Its user; without it, the one of `select`, or nobody in particular.",
        examples=["u-7"],
        json_schema_extra=ID | {"minLength": 0},
    )
    metadata: Metadata = Field(default_factory=dict)
    on_busy: OnBusyName = Field(
        "enqueue", description="When its session has an unfinished run then.", examples=["enqueue"]
    )
    not_before: Instant | None = Field(
        None, description="It does not start before this time.", examples=["2030-01-31T12:00:00Z"]
    )
    timeout: float | None = Field(
        None, gt=0, le=86_400, strict=True, examples=[120], description="Seconds that it may take from its start."
    )


class Limits(BaseModel):
    """How much a minute, at most; null: any."""

    model_config = ConfigDict(extra="forbid")

    items_per_minute: Whole = Field(None, description="Items that are begun.", examples=[60])
    requests_per_minute: Whole = Field(None, description="Requests to the model.", examples=[300])
    tokens_per_minute: Whole = Field(None, description="Input and output tokens.", examples=[200_000])


class Budget(BaseModel):
    """How much in all, at most; null: any. A batch whose budget does not do for one more item pauses."""

    model_config = ConfigDict(extra="forbid")

    tokens: Whole = Field(None, description="Input and output tokens.", examples=[5_000_000])
    cost: float | None = Field(
        None,
        gt=0,
        le=MOST,
        strict=True,
        description="In the currency of the price list, TEAM_SESSIONS_PRICES.",
        examples=[12.5],
    )


class Given(BaseModel):
    """Items by name: at most one of the three lists, which is the one that fits the kind."""

    model_config = ConfigDict(extra="forbid")

    session_ids: Ids | None = Field(
        None, max_length=AT_ONCE, description="Sessions, for 'refresh_summaries'.", examples=[["s-42", "s-43"]]
    )
    run_ids: Ids | None = Field(
        None,
        max_length=AT_ONCE,
        description="Runs, for 'replay_runs' and 'retry_failed'.",
        examples=[["run_019ab3c4d5e6f708192a3b4c5d6e7f80"]],
    )
    requests: list[BatchRun] | None = Field(
        None,
        max_length=AT_ONCE,
        description="Runs to be made, for 'enqueue_runs'.",
        examples=[[{"custom_id": "row-17", "team": "support", "input": "Hello."}]],
    )
    more: bool = Field(
        False, description="More will be given with `POST …/items`; until then nothing begins.", examples=[False]
    )


class MoreItems(Given):
    """More items for a batch that waits for them."""

    first: int | None = Field(
        None,
        ge=1,
        lt=2**31,
        description="The number that its first item gets: `items.planned` + 1. With it, this can be sent again to be "
        "sure: what stands in the batch already is not written twice.",
        examples=[10_001],
    )


class BatchRequest(Given):
    """A batch to be accepted. Its items are found with `select`, unless they are given by name."""

    kind: KindName = Field(
        description="What is done to each item: refresh a session's summary, replay a run in a fork of its session, "
        "repeat a failed run, or enqueue a run.",
        examples=["refresh_summaries"],
    )
    name: str | None = Field(None, description="For people.", examples=["prompt v2"], json_schema_extra=ID)
    select: Selection = Field(
        default_factory=Selection, description="Which sessions or runs.", examples=[{"team": "support", "tag": "vip"}]
    )
    canary: str | None = Field(
        None,
        description="So many items, or so much of them, come first; then the batch pauses until it is resumed.",
        examples=["10", "1%"],
        json_schema_extra={"pattern": f"^({CANARY.pattern})$"},
    )
    window: int = Field(100, ge=1, le=MAX_WINDOW, description="Items at the same time, at most.", examples=[100])
    limits: Limits = Field(
        default_factory=Limits, description="How much a minute.", examples=[{"items_per_minute": 60}]
    )
    budget: Budget = Field(default_factory=Budget, description="How much in all.", examples=[{"tokens": 5_000_000}])
    rebuild: bool = Field(
        False, description="Make summaries anew from the first message on, and not from the last one.", examples=[False]
    )
    execute_tools: bool = Field(
        False, description="Have replays execute tools; without it they get the recorded results.", examples=[False]
    )
    dry_run: bool = Field(
        False, description="Only say what `select` finds and about what it would cost: 200.", examples=[False]
    )


class Resume(BaseModel):
    """How to go on."""

    model_config = ConfigDict(extra="forbid")

    budget: Budget = Field(
        default_factory=Budget,
        description="The new budget in all, used up or not; null: as it was.",
        examples=[{"tokens": 10_000_000}],
    )


class Estimate(BaseModel):
    """What a batch would be."""

    count: int = field("Items.", 1_200)
    sample: list[str] = field("Ids of the first of them: sessions or runs.", ["s-42", "s-43"])
    input_tokens: int = field("About so many: what the runs used before, or what summaries read.", 2_400_000)
    output_tokens: int = field("Those of the runs before; of summaries 0, since nobody knows.", 0)
    cost: float | None = field("Of these tokens; null: no prices are known.", 3.75, None)


class Counts(BaseModel):
    """The items of a batch, counted."""

    planned: int = field("Found so far; all of them, once the batch runs.", 1_200)
    waiting: int = field("Not begun.", 700)
    in_flight: int = field("Begun, not ended.", 100)
    ended: int = field("Ended, however: the sum of those below.", 400)
    completed: int = field("Done. Of replays it is said what they found:", 398)
    same: int = field("the same output as before,", 0)
    changed: int = field("another output,", 0)
    diverged: int = field("a tool call that was not recorded.", 0)
    failed: int = field("Their error says why.", 2)
    cancelled: int = field("Their run was cancelled.", 0)
    gone: int = field("Their session was erased.", 0)


class Batch(BaseModel):
    """One order over many sessions or runs."""

    id: str = field("Id of the batch; ids sort by time.", "batch_019ab3c4d5e6f708192a3b4c5d6e7f80")
    kind: batches.Kind = field("What is done to each item.", "refresh_summaries")
    name: str | None = field("For people.", "prompt v2", None)
    status: batches.BatchStatus = field("'created' until all items are known; the last three are terminal.", "running")
    paused_by: batches.PausedBy | None = field("Why it is paused.", "canary", None)
    select: Selection = Field(description="How its items were found.")
    canary: str | None = field("Items that come first.", "1%", None)
    window: int = field("Items at the same time, at most.", 100)
    limits: Limits = Field(description="How much a minute, at most.")
    budget: Budget = Field(description="How much in all, at most.")
    rebuild: bool = field("Whether summaries are made anew from the first message on.", False)
    execute_tools: bool = field("Whether replays execute tools.", False)
    items: Counts = Field(description="Its items, counted.")
    usage: Usage = Field(description="What the items that have ended have used.")
    cost: float = field("Of that; 0 where no prices are known.", 1.25)
    items_per_second: float = field("How fast they end, lately.", 12.5)
    remaining_seconds: float | None = field("To its end, at this pace; null: nobody can tell.", 64.0, None)
    error_code: str | None = field("Why it failed, once failed.", "internal", None)
    created_at: Time = Field(description="When it was accepted.")
    started_at: Time | None = Field(description="When its first item was begun.")
    finished_at: Time | None = Field(description="When it had ended, and nothing of it was in flight any more.")

    @classmethod
    def of(cls, batch: batches.Batch) -> "Batch":
        order = batch.order
        limits, select = order.limits, {name: getattr(order.select, name) for name in Selection.model_fields}
        same = ("id", "status", "paused_by", "error_code", "created_at", "started_at", "finished_at")
        asked = ("kind", "name", "canary", "window", "rebuild", "execute_tools")
        return cls(
            **{name: getattr(batch, name) for name in same},
            **{name: getattr(order, name) for name in asked},
            select=Selection.model_construct(**select),
            limits=Limits.model_construct(**{name: getattr(limits, name) for name in Limits.model_fields}),
            budget=Budget.model_construct(tokens=limits.budget_tokens, cost=limits.budget_cost),
            items=_counts(batch),
            usage=batch.spent.usage,
            cost=round(batch.spent.cost, 6),
            items_per_second=round(batch.pace, 3),
            remaining_seconds=None if batch.remaining_s is None else round(batch.remaining_s, 1),
        )


def _counts(batch: batches.Batch) -> Counts:
    ended: Mapping[str, Any] = {outcome.value: batch.outcomes.get(outcome.value, 0) for outcome in batches.Outcome}
    waiting = batch.planned - batch.fed
    return Counts(planned=batch.planned, waiting=waiting, in_flight=batch.in_flight, ended=batch.ended, **ended)


class BatchPage(BaseModel):
    """Some batches, newest first, and where to go on."""

    data: list[Batch] = Field(description="The batches.")
    next_cursor: NextCursor


class Item(BaseModel):
    """One unit of a batch. Its status is that of its run, or of its session's refresh, as it is now."""

    number: int = field("Place in its batch, from 1.", 17)
    custom_id: str | None = field("Your name for it.", "row-17", None)
    session_id: str | None = field("Its session.", "s-42", None)
    user_id: str | None = field("Its user.", "u-7", None)
    source_run_id: str | None = field("The run that it repeats.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80", None)
    run_id: str | None = field("The run that was made for it.", "run_019ab3c4d5e6f708192a3b4c5d6e7f81", None)
    status: ItemStatus = field("'waiting' until it is begun.", "completed")
    tries: int = field("How often it was begun.", 1)
    attempts: int | None = field("How often its run was claimed.", 1, None)
    error: RunError | None = field("Why it failed, once failed.", {"code": "model_refused", "message": "…"}, None)
    version: int | None = field("Of the summary that it made.", 3, None)
    usage: Usage = Field(description="What its run used.")

    @classmethod
    def of(cls, item: batches.Item) -> "Item":
        fields = {name: getattr(item, name) for name in cls.model_fields if name not in ("error", "usage")}
        return cls(**fields, error=_error(item), usage=item.usage)


class Result(Item):
    """An item with what came of it."""

    old_output: str | None = field("The answer of the run that it repeats.", "It is on its way.", None)
    new_output: str | None = field("The answer of the run that was made for it.", "It comes on Friday.", None)


def _error(item: batches.Item) -> RunError | None:
    if item.error_code is None:
        return None
    message = item.error_message or f"It ended with {item.error_code!r}; the handbook's list of errors says more."
    return RunError(code=item.error_code, message=message)


class ItemPage(BaseModel):
    """Some items, in their order, and where to go on."""

    data: list[Item] = Field(description="The items.")
    next_cursor: NextCursor
