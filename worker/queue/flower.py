"""Flower for our app: with a login on every path, read-only, bounded in memory, and with rows that describe runs.

Flower's login leaves `/metrics`, `/healthcheck` and the static files open: `flower/views/monitor.py` has no
`authenticated` in 2.2. So the login is checked in `prepare` of the base class, before any handler answers.

Celery knows tasks that return and tasks that raise. Ours return how their run went, so Flower would show a failed run
in green, and a running one in a state that none of its filters has. So the events are corrected on their way in.
"""

import ast
import atexit
import logging
import signal
import sys
from contextlib import suppress
from typing import Any

import flower.app
import flower.events
from celery import Celery, states
from celery.events.state import Task
from flower.app import Flower
from flower.events import EventsState
from flower.options import options
from flower.urls import settings
from flower.utils import prepend_url
from flower.views import BaseHandler
from flower.views.error import NotFoundErrorHandler
from flower.views.tasks import TASK_COLUMNS
from tornado.web import HTTPError, StaticFileHandler

from worker.domain import End, parse_outcome
from worker.domain.outcome import NOT_CLAIMED
from worker.queue import flower_page
from worker.queue.flower_events import PersistentEvents
from worker.queue.flower_login import matches

COLUMNS = {
    "uuid": "Run",
    "attempt": "Attempt",
    "session_id": "Session",
    "team": "Team",
    "state": "State",
    "result": "Progress or outcome",
    "received": "Received",
    "runtime": "Runtime",
    "worker": "Worker",
}
# Set on Flower's own object, so none comes from FLOWER_*, from a command line or from a flowerconfig.py: its command
# reads all three. Kubernetes sets FLOWER_PORT for a Service `flower`.
OPTIONS = {
    "read_only": True,
    "max_tasks": 10_000,  # about 90 MB
    "max_workers": 500,  # a restarted worker has a new name
    "purge_offline_workers": 600,
    "tasks_columns": ",".join(COLUMNS),
}

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


class _GuardedFiles(BaseHandler, StaticFileHandler):  # type: ignore[misc]  # neither has types
    """Flower's static files, with its login."""


def serve(app: Celery, *, address: str, port: int, login: str, url_prefix: str = "") -> None:
    """Serve Flower until SIGTERM. *login* is 'user:password', required by HTTP Basic on every path.

    With *url_prefix* everything is served below `/PREFIX/`, for a proxy that does not rewrite paths.
    """
    BaseHandler.prepare = _require_login
    BaseHandler.get_current_user = lambda handler: _check_login(handler, login)
    settings["static_handler_class"] = _GuardedFiles
    settings["default_handler_class"] = NotFoundErrorHandler  # paths outside the prefix require the login too
    flower.events.EventsState = Rows
    flower.app.Events = PersistentEvents
    TASK_COLUMNS.update(COLUMNS)
    settings["template_loader"] = flower_page.loader(settings["template_path"])
    if url_prefix:
        options.url_prefix = url_prefix
        settings.update({name: prepend_url(settings[name], url_prefix) for name in ("login_url", "static_url_prefix")})
    for name, value in {"address": address, "port": port, "basic_auth": [login], **OPTIONS}.items():
        setattr(options, name, value)
    logging.getLogger("tornado.access").disabled = True  # it warns of each request that is refused
    server = Flower(capp=app, options=options, **settings)
    atexit.register(server.stop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.start_http_server()
    with suppress(KeyboardInterrupt, SystemExit):
        server.start()


def _check_login(handler: BaseHandler, login: str) -> bool:
    if not matches(handler.request.headers.get("Authorization", ""), login):
        raise HTTPError(401)
    return True


def _require_login(handler: BaseHandler) -> None:
    _ = handler.current_user  # raises without the login
    reload_s = handler.get_query_argument("reload", "")[:4]
    if reload_s.isdecimal() and int(reload_s):  # Flower's page of tasks does not refresh itself
        handler.set_header("Refresh", int(reload_s))


class Row(Task):  # type: ignore[misc]  # celery has no types
    """One task: one attempt of a run, or one refresh of a summary. `attempt` None: it took no run."""

    _fields = (*Task._fields, *IDS, "attempt")
    run_id = session_id = team = attempt = None

    def event(self, type_: str, timestamp: Any = None, local_received: Any = None, fields: Any = None) -> None:
        """Take one event of the task."""
        fields = dict(fields or {})
        known = {**_ids(fields.get("kwargs")), **{n: fields[n] for n in ("name", "attempt") if n in fields}}
        if type_ in BEFORE_END and self.state not in AT_WORK:
            pass  # a late event, or one of a second delivery: the outcome stays visible
        elif type_ == "progress":
            # It keeps a state that a filter has. If its start was missed, its row is listed with the newest.
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
