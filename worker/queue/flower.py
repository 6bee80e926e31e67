"""Flower beside our app: with a login on every path, read-only, bounded in memory.

Its own login leaves `/metrics`, `/healthcheck` and the static files open: `flower/views/monitor.py` has no
`authenticated` in 2.2. The base class of its handlers is asked before any of them answers.
"""

import os
import signal
import sys

from celery import Celery
from flower.urls import settings
from flower.views import BaseHandler
from tornado.web import HTTPError, StaticFileHandler

COLUMNS = "name,kwargs,state,result,received,started,runtime,worker"


class _GuardedFiles(BaseHandler, StaticFileHandler):  # type: ignore[misc]  # neither has types
    """Flower's static files, behind its login."""


def serve(app: Celery, *, address: str, port: int, login: str) -> None:
    """Serve Flower until SIGTERM. *login* is 'user:password', asked for by HTTP Basic on every path."""
    BaseHandler.prepare = _ask_who
    settings["static_handler_class"] = _GuardedFiles
    os.environ["FLOWER_BASIC_AUTH"] = login  # not an argument: those stand in the list of processes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app.start(
        [
            "flower",
            f"--address={address}",
            f"--port={port}",
            "--read_only=True",
            "--max_tasks=20000",
            f"--tasks_columns={COLUMNS}",
        ]
    )


def _ask_who(handler: BaseHandler) -> None:
    if not handler.current_user:
        raise HTTPError(401)
