"""The Celery door: orders of other services that come through the broker, as the task `runs.enqueue`.

As durable as their broker: the same id again finds the same run. An order that is refused is recorded as a failed run
in a session of its own, so that who sent it finds under its key why.
"""

import time
from datetime import datetime
from typing import Any

from worker.domain.run import OnBusy, Priority, RunError
from worker.domain.text import ID_LIMIT, check_id, mend
from worker.errors import (
    DatabaseUnavailable,
    IdempotencyConflict,
    OrderInvalid,
    RequestRefused,
    RunGone,
    TeamSessionsError,
)
from worker.observe import logs, metrics
from worker.process.runtime import Runtime
from worker.runs.enqueue import KnownTeams, Order, check, enqueue, refuse

log = logs.get(__name__)

DATABASE_AWAY_S = 60  # an order keeps its slot for so long; then it goes back to the broker
FIELDS = {"team", "input", "session_id", "user_id", "on_busy", "priority", "not_before", "timeout", "metadata"}


def accept_order(runtime: Runtime, sent: dict[str, Any], *, key: str) -> str:
    """Accept what was sent under *key*, and say in a few words, without message text, what became of it.

    Raises:
        DatabaseUnavailable: for a minute; nothing is accepted.
    """
    for waited_s in range(DATABASE_AWAY_S + 1):
        try:
            return _taken(runtime, sent, key=key)
        except DatabaseUnavailable:
            if waited_s == DATABASE_AWAY_S or runtime.keeper.handing_over:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")


def _taken(runtime: Runtime, sent: dict[str, Any], *, key: str) -> str:
    settings = runtime.settings
    try:
        check_id(key, field="task_id")
    except RequestRefused as error:  # nobody could find it under such a key
        return _refused(error, key)
    try:
        order = _read(sent)
        check(order, max_input_bytes=settings.max_input_bytes)
        KnownTeams(runtime.db).check(order.team)
        accepted = enqueue(runtime.db, order, settings=settings, idempotency_key=key)
    except DatabaseUnavailable:
        raise
    except (IdempotencyConflict, RunGone) as error:  # its key finds what it found before: nothing is recorded under it
        return _refused(error, key)
    except RequestRefused as error:
        return _recorded(runtime, sent, error, key)
    except Exception as error:  # noqa: BLE001 - a fault in us: who has sent the order finds that, too
        log.error("order met an unexpected error", task_id=key, error=error)
        return _recorded(runtime, sent, TeamSessionsError(), key)
    runtime.dispatcher.send(accepted.dispatches)
    return f"accepted: {accepted.run.id}"


def _recorded(runtime: Runtime, sent: dict[str, Any], error: TeamSessionsError, key: str) -> str:
    settings = runtime.settings
    kept = _readable(sent, limit=settings.max_input_bytes)
    try:
        with runtime.db.write() as tx:
            refuse(tx, kept, RunError(error.code, mend(error.message)), settings=settings, idempotency_key=key)
    except (IdempotencyConflict, RunGone) as conflict:
        return _refused(conflict, key)
    return _refused(error, key)


def _refused(error: TeamSessionsError, key: str) -> str:
    metrics.REFUSALS.labels(error.code).inc()
    log.warning("order refused", code=error.code, task_id=key[:ID_LIMIT])
    return f"refused: {error.code}"


def _read(sent: dict[str, Any]) -> Order:
    """Return the order; raises OrderInvalid for a field that is missing, unknown, or no such thing."""
    for field in sorted(set(sent) - FIELDS):
        raise OrderInvalid(field=field, problem=f"not known; there are {', '.join(sorted(FIELDS))}")
    for field, kinds in _KINDS.items():
        value = sent.get(field)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise OrderInvalid(field=field, problem=f"a {type(value).__name__}")
    try:
        not_before = datetime.fromisoformat(sent["not_before"]) if sent.get("not_before") else None
        return Order(
            team=sent["team"],
            input=sent["input"],
            session_id=sent.get("session_id"),
            user_id=sent.get("user_id") or "",
            metadata=sent.get("metadata") or {},
            on_busy=OnBusy(sent.get("on_busy") or OnBusy.ENQUEUE),
            priority=Priority(sent.get("priority") or Priority.INTERACTIVE),
            not_before=not_before,
            timeout_s=sent.get("timeout"),
        )
    except ValueError as error:
        raise OrderInvalid(field="on_busy, priority or not_before", problem=str(error)) from None


_KINDS: dict[str, tuple[type, ...]] = {
    "team": (str,),
    "input": (str,),
    "metadata": (dict, type(None)),
    "timeout": (int, float, type(None)),
    **dict.fromkeys(("session_id", "user_id", "on_busy", "priority", "not_before"), (str, type(None))),
}


def _readable(sent: dict[str, Any], *, limit: int) -> Order:
    """Return what can be kept of an order that was refused, *limit* characters of its input at most."""

    def text(field: str, limit: int) -> str:
        return mend(str(sent.get(field) or ""))[:limit]

    return Order(text("team", ID_LIMIT), text("input", limit), user_id=text("user_id", ID_LIMIT))
