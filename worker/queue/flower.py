"""Flower beside our app: with a login on every path, read-only, bounded in memory, and with rows that say what runs do.

Its own login leaves `/metrics`, `/healthcheck` and the static files open: `flower/views/monitor.py` has no
`authenticated` in 2.2. The base class of its handlers is asked before any of them answers.
"""

import os
import signal
import sys

import flower.events
from celery import Celery
from flower.urls import settings
from flower.views import BaseHandler
from flower.views.error import NotFoundErrorHandler
from flower.views.tasks import TASK_COLUMNS
from tornado.web import HTTPError, StaticFileHandler

from worker.queue.flower_rows import Rows

COLUMNS = {
    "name": "Task",
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
OPTIONS = {
    "conf": os.devnull,  # else it would execute a flowerconfig.py of the directory in which it is started
    "read_only": True,
    "max_tasks": 10_000,  # about 90 MB
    "max_workers": 500,  # a worker that is started again has a new name
    "purge_offline_workers": 600,
    "tasks_columns": ",".join(COLUMNS),
}


class _GuardedFiles(BaseHandler, StaticFileHandler):  # type: ignore[misc]  # neither has types
    """Flower's static files, behind its login."""


def serve(app: Celery, *, address: str, port: int, login: str, url_prefix: str = "") -> None:
    """Serve Flower until SIGTERM. *login* is 'user:password', asked for by HTTP Basic on every path.

    With *url_prefix* everything is served below `/PREFIX/`, for a proxy that leaves paths as they are.
    """
    BaseHandler.prepare = _ask_who
    settings["static_handler_class"] = _GuardedFiles
    settings["default_handler_class"] = NotFoundErrorHandler  # beside the prefix too nobody is told anything
    flower.events.EventsState = Rows
    TASK_COLUMNS.update(COLUMNS)
    os.environ["FLOWER_BASIC_AUTH"] = login  # not an argument: those stand in the list of processes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    where = {"address": address, "port": port, **({"url_prefix": url_prefix} if url_prefix else {})}
    app.start(["flower", *(f"--{name}={value}" for name, value in {**where, **OPTIONS}.items())])


def _ask_who(handler: BaseHandler) -> None:
    if not handler.current_user:
        raise HTTPError(401)
    reload_s = handler.get_query_argument("reload", "")[:4]
    if reload_s.isdecimal() and int(reload_s):  # a page of tasks does not refresh itself
        handler.set_header("Refresh", int(reload_s))
