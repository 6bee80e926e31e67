"""The Celery door: orders of other services that come through the broker, as the task `runs.enqueue`.

As durable as their broker: the same id again finds the same run. A refused order is recorded as a failed run in a
session of its own, so the sender can look up the reason by its key.
"""

import dataclasses
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from worker.domain import (
    ID_LIMIT,
    Draft,
    Role,
    RunError,
    RunOrder,
    Status,
    bounds,
    check_id,
    mend,
    parse_order,
    validate_order,
    validate_time,
)
from worker.errors import (
    DatabaseUnavailable,
    IdempotencyConflict,
    InvalidTime,
    OrderInvalid,
    RequestRefused,
    RunGone,
    TeamSessionsError,
)
from worker.observe import logs, metrics
from worker.process.runtime import Runtime
from worker.runs.enqueue import KnownTeams, enqueue, enqueue_in
from worker.runs.finish import Ending, Head, end_head
from worker.settings import Settings
from worker.store import Transaction, sessions

log = logs.get(__name__)

DATABASE_AWAY_S = 3  # an order waits so long for the database; then it goes back, for a worker that reaches it
# How pydantic names what is wrong with a number of seconds.
OUT_OF_RANGE = {"greater_than", "less_than_equal"}
# What is wrong with an option of the Celery call. The others let a task follow, but there is no result to call it with.
PROBLEMS = {
    "countdown or eta": "not supported; send 'not_before'",
    "expires": "not supported; cancel the run, or send 'timeout'",
    "compression": "not supported; send the task uncompressed",
}
NO_RESULT = "not supported, since the task has no result; look up the run by its key, the task's id"


def accept_order(runtime: Runtime, fields: dict[str, Any], *, key: str, options: Sequence[str] = ()) -> str:
    """Accept what was sent under *key*, and say in a few words, without message text, what became of it.

    *options* are those of the Celery call that no worker honours. With any, the order is refused.

    Raises:
        DatabaseUnavailable: for seconds; nothing is accepted.
    """
    for waited_s in range(DATABASE_AWAY_S + 1):
        try:
            return _taken(runtime, fields, key=key, options=options)
        except DatabaseUnavailable:
            if waited_s == DATABASE_AWAY_S or runtime.keeper.handing_over:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")


def _taken(runtime: Runtime, fields: dict[str, Any], *, key: str, options: Sequence[str]) -> str:
    settings = runtime.settings
    try:
        check_id(key, field="task_id")
    except RequestRefused as error:  # no run can be found under such a key
        return _refused(error, key)
    try:
        if options:
            raise OrderInvalid(field=options[0], problem=PROBLEMS.get(options[0], NO_RESULT))
        order = _parse(fields)
        validate_order(order, max_input_bytes=settings.max_input_bytes)
        KnownTeams(runtime.db).check(order.team)
        accepted = enqueue(runtime.db, order, settings=settings, idempotency_key=key)
    except DatabaseUnavailable:
        raise
    except (IdempotencyConflict, RunGone) as error:  # its key belongs to an earlier order: nothing is recorded under it
        return _refused(error, key)
    except RequestRefused as error:
        return _recorded(runtime, fields, error, key)
    except Exception as error:  # noqa: BLE001 - a fault in us: who has sent the order finds that, too
        log.error("order met an unexpected error", task_id=key, error=error)
        return _recorded(runtime, fields, TeamSessionsError(), key)
    runtime.dispatcher.send(accepted.dispatches)
    run = accepted.run
    log.info("order accepted", task_id=key, run_id=run.id, session_id=run.session_id, team=run.team)
    return f"accepted: {run.id}"


def _recorded(runtime: Runtime, fields: dict[str, Any], error: TeamSessionsError, key: str) -> str:
    settings = runtime.settings
    kept = _readable(fields, limit=settings.max_input_bytes)
    try:
        with runtime.db.write() as tx:
            _refuse_in(tx, kept, RunError(error.code, mend(error.message)), settings=settings, idempotency_key=key)
    except (IdempotencyConflict, RunGone) as conflict:
        return _refused(conflict, key)
    return _refused(error, key)


def _refused(error: TeamSessionsError, key: str) -> str:
    metrics.REFUSALS.labels(error.code).inc()
    log.warning("order refused", code=error.code, task_id=key[:ID_LIMIT])
    return f"refused: {error.code}"


def _parse(fields: dict[str, Any]) -> RunOrder:
    """Return the order. Null means the default, and so does an empty choice or time.

    Raises:
        OrderInvalid, InvalidTime: for the first field that is wrong.
    """
    if len(fields) > bounds.ARGUMENTS:  # each unknown one is an error of its own, and a million fill the memory
        raise OrderInvalid(field="(all)", problem=f"{len(fields):,} arguments; expected {bounds.ARGUMENTS} at most")
    empty = {"on_busy": "", "priority": "", "not_before": ""}
    values = {name: value for name, value in fields.items() if value is not None and value != empty.get(name)}
    try:
        if isinstance(values.get("not_before"), str):
            values["not_before"] = datetime.fromisoformat(values["not_before"])
            validate_time(values["not_before"], field="not_before")
    except ValueError:
        raise OrderInvalid(field="not_before", problem="expected a time in ISO 8601 format") from None
    try:
        return parse_order(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field, problem = ".".join(map(str, first["loc"]))[:ID_LIMIT], first["msg"]
        if first["type"] == "unexpected_keyword_argument":
            problem = f"unknown; an order has {', '.join(field.name for field in dataclasses.fields(RunOrder))}"
        if first["type"] in OUT_OF_RANGE:
            raise InvalidTime(
                field=field, value="out of range", expected=problem.removeprefix("Input should be ")
            ) from None
        raise OrderInvalid(field=field, problem=problem) from None


def _readable(fields: dict[str, Any], *, limit: int) -> RunOrder:
    """Return what can be kept of a refused order: its ids, and at most *limit* bytes of its input."""

    def text(field: str, limit: int) -> str:
        value = fields.get(field) or ""
        return mend(value[:limit] if isinstance(value, str) else f"({type(value).__name__})")

    kept = text("input", limit).encode()[:limit].decode(errors="ignore")
    return RunOrder(text("team", ID_LIMIT), kept, user_id=text("user_id", ID_LIMIT))


def _refuse_in(tx: Transaction, order: RunOrder, error: RunError, *, settings: Settings, idempotency_key: str) -> None:
    """Record a refused order under its key, as a failed run in a session of its own."""
    accepted = enqueue_in(tx, order, settings=settings, idempotency_key=idempotency_key)
    if accepted.repeated:
        return
    session = sessions.lock_of_run(tx, accepted.run.id)
    assert session is not None
    head = Head(accepted.run.id, session.pk, session.session_id, order.team, 1, 0, Status.QUEUED)
    draft = Draft(Role.USER, accepted.run.user_id, order.input)
    end_head(tx, head, Ending(Status.FAILED, [draft], error=error))
