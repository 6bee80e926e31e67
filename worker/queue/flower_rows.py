"""The rows of Flower: the ids of a run in their own columns, its progress, and its outcome.

Celery knows tasks that return and tasks that raise. Ours return how their run went, so that Flower would show a failed
run in green, and one that is at work in a state that none of its filters has. The events are put right on their way in.
"""

import ast
from typing import Any

from celery import states
from celery.events.state import Task
from flower.events import EventsState

from worker.domain import End, parse_outcome
from worker.domain.outcome import NOT_CLAIMED

# Celery's event for what became of a delivery that did not complete its run.
EVENTS = {
    **dict.fromkeys(NOT_CLAIMED, "task-rejected"),
    End.FAILED: "task-failed",
    End.CANCELLED: "task-revoked",
    # Another attempt continues the run:
    **dict.fromkeys((End.WAITS, End.HANDED_OVER, End.LEASE_LOST, End.DATABASE_UNAVAILABLE), "task-retried"),
}
BEFORE_END = ("received", "started", "progress", "rejected")
AT_WORK = (states.PENDING, states.RECEIVED, states.REJECTED, states.STARTED)  # or about to be
IDS = ("run_id", "session_id", "team")


class Row(Task):  # type: ignore[misc]  # celery has no types
    """One task: one attempt of a run, or one refresh of a summary. `attempt` None: it took no run."""

    _fields = (*Task._fields, *IDS, "attempt")
    run_id = session_id = team = attempt = None

    def event(self, type_: str, timestamp: Any = None, local_received: Any = None, fields: Any = None) -> None:
        """Take one event of the task."""
        fields = dict(fields or {})
        known = {**_ids(fields.get("kwargs")), **{n: fields[n] for n in ("name", "attempt") if n in fields}}
        if type_ in BEFORE_END and self.state not in AT_WORK:
            pass  # words that come late, or a delivery that comes twice: they hide nothing of how it went
        elif type_ == "progress":
            # It keeps the state that a filter has. If its beginning was not heard, its row stands with the newest.
            heard_at = {"received": self.received or timestamp, "started": self.started or timestamp}
            self.__dict__.update(fields, **heard_at, state=states.STARTED)
        elif type_ == "rejected":
            if self.attempt is None:  # the same delivery may come again and claim its run
                self.__dict__.update(fields, state=states.REJECTED)
        else:
            super().event(type_, timestamp, local_received, fields)
        self.__dict__.update(known)


class Rows(EventsState):  # type: ignore[misc]  # flower has no types
    """All rows."""

    Task = Row

    def event(self, event: dict[str, Any]) -> None:
        """Take one event of the workers."""
        if event["type"] == "task-succeeded":
            text = str(event.get("result")).strip("'")  # Celery sends the repr of the result
            outcome = parse_outcome(text)
            if outcome is not None and outcome.end in EVENTS:
                event = {**event, "type": EVENTS[outcome.end]}
            event = {**event, "result": text}
        super().event(event)
        if event["type"] == "worker-online":
            for name in self.counter.keys() - self.workers.data.keys():
                del self.counter[name]


def _ids(kwargs: str | None) -> dict[str, str]:
    """Return the ids in the arguments of a task, which come as Python's repr."""
    try:
        read = ast.literal_eval(kwargs or "{}")
    except (ValueError, SyntaxError):  # cut, since they were long
        return {}
    return {name: str(read[name]) for name in IDS if name in read} if isinstance(read, dict) else {}
