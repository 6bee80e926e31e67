"""Flower for our app: with a login on every path, read-only, bounded in memory, and with rows that describe runs.

Flower's login leaves `/metrics`, `/healthcheck` and the static files open: `flower/views/monitor.py` has no
`authenticated` in 2.2. So the login is checked in `prepare` of the base class, before any handler answers.
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
    "conf": os.devnull,  # otherwise it executes a flowerconfig.py in its working directory
    "read_only": True,
    "max_tasks": 10_000,  # about 90 MB
    "max_workers": 500,  # a restarted worker has a new name
    "purge_offline_workers": 600,
    "tasks_columns": ",".join(COLUMNS),
}


class _GuardedFiles(BaseHandler, StaticFileHandler):  # type: ignore[misc]  # neither has types
    """Flower's static files, with its login."""


def serve(app: Celery, *, address: str, port: int, login: str, url_prefix: str = "") -> None:
    """Serve Flower until SIGTERM. *login* is 'user:password', required by HTTP Basic on every path.

    With *url_prefix* everything is served below `/PREFIX/`, for a proxy that does not rewrite paths.
    """
    BaseHandler.prepare = _require_login
    settings["static_handler_class"] = _GuardedFiles
    settings["default_handler_class"] = NotFoundErrorHandler  # paths outside the prefix require the login too
    flower.events.EventsState = Rows
    TASK_COLUMNS.update(COLUMNS)
    os.environ["FLOWER_BASIC_AUTH"] = login  # not an argument: the list of processes shows those
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options: dict[str, object] = {"address": address, "port": port, **OPTIONS}
    if url_prefix:
        options["url_prefix"] = url_prefix
    app.start(["flower", *(f"--{name}={value}" for name, value in options.items())])


def _require_login(handler: BaseHandler) -> None:
    if not handler.current_user:
        raise HTTPError(401)
    reload_s = handler.get_query_argument("reload", "")[:4]
    if reload_s.isdecimal() and int(reload_s):  # Flower's page of tasks does not refresh itself
        handler.set_header("Refresh", int(reload_s))
