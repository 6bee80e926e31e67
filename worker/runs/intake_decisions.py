"""The Celery door for decisions: the task `runs.continue` of other services.

What is refused is logged and counted; its sender reads the run's decisions to see what counts.
"""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from worker.domain import Decision, check_id, check_text
from worker.errors import DatabaseUnavailable, OrderInvalid, RequestRefused
from worker.observe import logs, metrics
from worker.process.runtime import Runtime
from worker.runs.decide import decide

log = logs.get(__name__)

FIELDS = ("run_id", "user_id", "decisions", "approver")
MOST = 1_000  # decisions at once
_DECISIONS: TypeAdapter[list[Decision]] = TypeAdapter(list[Decision])


def accept_decisions(runtime: Runtime, fields: dict[str, Any]) -> str:
    """Decide about calls of a run, and say in a few words, without message text, what became of it.

    Raises:
        DatabaseUnavailable: nothing is decided.
    """
    try:
        run_id, decisions = _parse(fields)
        user_id, approver = fields.get("user_id"), fields.get("approver")
        run, dispatches = decide(runtime.db, run_id, decisions, user_id=user_id, approver=approver)
    except DatabaseUnavailable:
        raise
    except RequestRefused as error:
        metrics.REFUSALS.labels(error.code).inc()
        log.warning("decisions refused", code=error.code)
        return f"refused: {error.code}"
    runtime.dispatcher.send(dispatches)
    return f"decided: {run.id}"


def _parse(fields: dict[str, Any]) -> tuple[str, list[Decision]]:
    """Return the run and the decisions. Raises OrderInvalid, InvalidText, InvalidIdentifier."""
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise OrderInvalid(field=unknown[0][:100], problem=f"unknown; there are {', '.join(FIELDS)}")
    run_id = check_id(fields.get("run_id") or "", field="run_id")
    for name in ("user_id", "approver"):
        if fields.get(name) is not None:
            check_text(fields[name], field=name)
    given = fields.get("decisions")
    if not isinstance(given, list) or not 0 < len(given) <= MOST:
        raise OrderInvalid(field="decisions", problem=f"expected a list of 1 to {MOST:,} decisions")
    try:
        return run_id, _DECISIONS.validate_python(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise OrderInvalid(field=f"decisions.{'.'.join(map(str, first['loc']))}"[:200], problem=first["msg"]) from None
