"""What a caller asks of a run: the one shape of it.

It is the body of `POST /v1/runs`, the order that `enqueue` takes, the request that a batch's item keeps as JSON, and
what the Celery task `runs.enqueue` reads. To add an option: a field here, and a column where the run needs it later.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from dataclasses import field as default
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema

from worker.clock import rfc3339
from worker.domain import run_options, schemas
from worker.domain.bounds import check_metadata
from worker.domain.fields import ID, INPUT, Metadata, check_rfc3339, field, in_place
from worker.domain.run import OnBusy, Priority, Replay, Run
from worker.domain.run_options import RunOptions
from worker.domain.text import check_id, check_input, check_json, wrong_type
from worker.errors import InvalidTime, SchemaInvalid

MAX_TIMEOUT_S = 86_400.0
NAME = re.compile(r"^[A-Za-z0-9_-]{0,64}$")  # of an answer, as providers take it
# Databases and calendars can convert every time between these to every time zone; not every time outside.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A run to be accepted."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    team: Annotated[str, field("Id of a team that some worker serves.", "support", schema=ID)]
    input: Annotated[str, field("What the user says; not blank.", "My parcel has not come. What now?", schema=INPUT)]
    _: KW_ONLY
    session_id: Annotated[
        str | None, field("The session to continue, unique for its user; else a new one.", "s-42", schema=ID)
    ] = None
    user_id: Annotated[
        str | None,
        field("The user that a service key acts for; a user's key omits it.", "u-7", schema=ID | {"minLength": 0}),
    ] = None
    on_busy: Annotated[
        OnBusy,
        in_place(OnBusy),
        field(
            "When the session has an unfinished run: wait for it; be refused (409); cancel the oldest one and keep "
            "what it wrote; cancel it and leave it out of later contexts; join the input to the newest queued run of "
            "the same kind; or go before the queued runs that wait for their 'not_before'.",
            "interrupt",
        ),
    ] = OnBusy.ENQUEUE
    priority: Annotated[
        Priority,
        in_place(Priority),
        field("'background': when workers have time, or an interactive run waits behind it.", "background"),
    ] = Priority.INTERACTIVE
    not_before: Annotated[
        AwareDatetime | None,
        BeforeValidator(check_rfc3339),
        field("Its earliest start. The runs behind it in its session wait, too.", "2030-01-31T12:00:00Z"),
    ] = None
    timeout: Annotated[
        float | None,
        Field(gt=0, le=MAX_TIMEOUT_S, strict=True),
        field("Seconds that it may take from its start; at most what its team allows.", 120),
    ] = None
    metadata: Metadata = default(default_factory=dict)
    session_state: Annotated[
        dict[str, Any],
        field("Set in the session's state when the run starts, by top-level keys; other keys stay.", {"city": "Rome"}),
    ] = default(default_factory=dict)
    dependencies: Annotated[
        dict[str, Any],
        field("For the run's tools, hooks and instructions; the model sees what the team shows it.", {"plan": "pro"}),
    ] = default(default_factory=dict)
    add_dependencies_to_context: Annotated[
        bool, Field(strict=True), field("Whether the model is shown the dependencies, whatever the team says.", True)
    ] = False

    output_schema: Annotated[
        dict[str, Any] | None,
        field(
            "The JSON schema that the answer must fit; it goes before the team's. At most 64 KiB, without a '$ref' to "
            "the outside.",
            {"type": "object", "properties": {"category": {"type": "string"}}, "required": ["category"]},
        ),
    ] = None
    output_name: Annotated[
        str, field("What the answer is, for the model.", "invoice", schema={"pattern": NAME.pattern})
    ] = ""

    @property
    def options(self) -> RunOptions:
        """What it asks beyond its input."""
        return RunOptions(**{name: getattr(self, name) for name in run_options.NAMES})

    def to_json(self) -> dict[str, Any]:
        """Return the order, but for its priority, as the JSON of a batch's item.

        Processes of other releases read it, and hashes of it are stored: its names and values must not change. So an
        option that is newer than they are is in it only if it is set.
        """
        left_out = {"priority", *run_options.NAMES}
        row = {field.name: getattr(self, field.name) for field in fields(RunOrder) if field.name not in left_out}
        row |= self.options.to_json()
        row["timeout_s"] = row.pop("timeout")
        row["user_id"] = self.user_id or ""
        row["not_before"] = self.not_before and rfc3339(self.not_before)
        return row

    def fingerprint(self, *, retry_of: str | None = None) -> str:
        """Return a hash that is equal for equal orders, in every release."""
        values = self.to_json() | {"priority": self.priority, "retry_of": retry_of}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _describe_batch_run(schema: dict[str, Any]) -> None:
    """Describe `custom_id` first, since it names the item, and give a batch's own examples."""
    properties = schema["properties"]
    last = ("metadata", *run_options.NAMES, "on_busy", "not_before", "timeout")
    names = ["custom_id", *(name for name in properties if name not in ("custom_id", *last)), *last]
    schema["properties"] = {name: properties[name] for name in names}
    properties["input"]["examples"], properties["on_busy"]["examples"] = ["Hello."], ["enqueue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun(RunOrder):
    """A run of a batch of kind 'enqueue_runs'. Its fields mean the same as those of `POST /v1/runs`."""

    __pydantic_config__ = ConfigDict(extra="forbid", json_schema_extra=_describe_batch_run)

    custom_id: Annotated[str | None, field("Your own ID of it, unique in its batch.", "row-17", schema=ID)] = None
    priority: Annotated[Priority, in_place(Priority), SkipJsonSchema()] = default(
        default=Priority.BACKGROUND, init=False
    )


_ORDER, _BATCH_RUN = TypeAdapter(RunOrder), TypeAdapter(BatchRun)


def parse_order(values: Mapping[str, Any]) -> RunOrder:
    """Return the order that these fields describe. Text and times are checked by `validate_order`.

    Raises:
        pydantic.ValidationError: a field is missing, unknown, or of another type.
    """
    # The fingerprint of an order differs for 120 and 120.0: the number of seconds stays as it was sent.
    return replace(_ORDER.validate_python(values), timeout=values.get("timeout"))


def parse_batch_run(row: Mapping[str, Any]) -> BatchRun:
    """Return the run of a batch's item that `to_json` wrote."""
    return _BATCH_RUN.validate_python({"timeout" if name == "timeout_s" else name: row[name] for name in row})


def order_again(run: Run, *, priority: Priority) -> RunOrder:
    """Return an order with the input, options, metadata and timeout of *run*, in its session."""
    return RunOrder(
        run.team,
        run.input,
        session_id=run.session_id,
        user_id=run.user_id,
        priority=priority,
        timeout=run.timeout_s,
        metadata=run.metadata,
        **{name: getattr(run.options, name) for name in run_options.NAMES},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The earlier run that a run repeats, if any: as a retry in the same session, or as a replay in a fork."""

    retry_of: str | None = None
    replay: Replay | None = None


NO_ORIGIN = Origin()


def validate_order(order: RunOrder, *, max_input_bytes: int) -> None:
    """Check an order before anything is written.

    Raises:
        EmptyInput, InputTooLarge, ValueTooLarge, InvalidType, InvalidText, InvalidIdentifier, InvalidJson, InvalidTime,
        SchemaInvalid
    """
    check_id(order.team, field="team")
    if order.session_id is not None:
        check_id(order.session_id, field="session_id")
    if order.user_id is not None and order.user_id != "":
        check_id(order.user_id, field="user_id")
    for name in ("metadata", "session_state", "dependencies"):
        check_metadata(getattr(order, name), field=name)
    if not isinstance(order.add_dependencies_to_context, bool):
        raise wrong_type(order.add_dependencies_to_context, field="add_dependencies_to_context", expected="a boolean")
    if order.output_schema is not None and (mistake := schemas.mistake_in(order.output_schema)) is not None:
        raise SchemaInvalid(problem=mistake)
    if not isinstance(order.output_name, str) or not NAME.match(order.output_name):
        raise SchemaInvalid(problem="its output_name has other characters than A-Z, a-z, 0-9, '_' and '-', or over 64")
    check_json(order.output_schema, field="output_schema")
    check_input(order.input, limit=max_input_bytes)
    if order.not_before is not None:
        validate_time(order.not_before, field="not_before")
    if order.timeout is not None and (isinstance(order.timeout, bool) or not isinstance(order.timeout, (int, float))):
        raise wrong_type(order.timeout, field="timeout", expected="a number of seconds")
    if order.timeout is not None and not 0 < order.timeout <= MAX_TIMEOUT_S:
        expected = f"more than 0, at most {MAX_TIMEOUT_S:g}"
        raise InvalidTime(field="timeout", value=f"{order.timeout:g}", expected=expected)


def validate_time(time: datetime, *, field: str) -> None:
    """Check a time that a caller sends. Raises InvalidType, InvalidTime."""
    if not isinstance(time, datetime):
        raise wrong_type(time, field=field, expected="a datetime")
    if time.tzinfo is None:
        raise InvalidTime(field=field, value="a time without an offset", expected="one with 'Z' or '+01:00'")
    if not EARLIEST <= time < LATEST:
        raise InvalidTime(field=field, value="out of range", expected="a time in the years 1970 to 9998, in UTC")
