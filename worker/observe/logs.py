"""Logs: constant text, values in fields, one line each.

Readable on a terminal, JSON elsewhere. Every line logged inside `bound`, by this package, a tool or a library, has the
ids of its run; a thread that works for a run is started in a copy of its context. Of an exception only the type and the
position in the code are logged: its message can hold message text or a secret.
"""

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from worker.controls import CODES, escape
from worker.errors import TeamSessionsError
from worker.observe.log_origins import OURS, Origin, is_of_users, origin, shortened
from worker.settings import Settings

_ORIGIN = "_origin"  # the attribute of a record in which the handler's filter notes whose line it is
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "color_message", "data", _ORIGIN)
}
# These log much below WARNING. Their lines would be dropped in the end; with a level they are not made at all.
_CHATTY = ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "celery", "kombu", "alembic", "uvicorn", "flower")
# They warn of what is harmless: kombu of a message that reaches a stopping worker (it is put back), Flower of workers
# that do not answer its inspection within a second, as when they have just started (events fill its pages).
_FALSE_ALARMS = ("kombu.transport.virtual.base", "flower.inspector")
# A line end or a tab would forge a line or a field.
_ESCAPES = {code: escape(chr(code)) for code in (*CODES, ord("\n"), ord("\t"))}
_NONE: dict[str, object] = {}
_bound: ContextVar[dict[str, object]] = ContextVar("fields of every line", default=_NONE)


class Log:
    """A logger whose values are fields: `log.warning("dispatch failed", run_id=…)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, text: str, **fields: object) -> None:
        """Log what helps in development."""
        self._logger.debug(text, extra=_loggable(_bound.get() | fields))

    def info(self, text: str, **fields: object) -> None:
        """Log what happened."""
        self._logger.info(text, extra=_loggable(_bound.get() | fields))

    def warning(self, text: str, **fields: object) -> None:
        """Log a problem that needs no action."""
        self._logger.warning(text, extra=_loggable(_bound.get() | fields))

    def error(self, text: str, **fields: object) -> None:
        """Log a problem that an operator must look at."""
        self._logger.error(text, extra=_loggable(_bound.get() | fields))


def get(name: str) -> Log:
    """Return the log of one module."""
    return Log(name)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add *fields* to every line logged inside the block, on this thread and on threads that copy its context."""
    token = _bound.set(_bound.get() | fields)
    try:
        yield
    finally:
        _bound.reset(token)


def configure(
    level: str,
    *,
    style: Literal["auto", "json", "readable"] = "auto",
    libraries: str = "WARNING",
    teams: str | None = None,
) -> None:
    """Send all logs of this process to stderr, one line each; 'auto' is readable on a terminal, else JSON.

    Lines of libraries are logged from the level *libraries* on; below WARNING they are logged as they are, with URLs
    and texts. *teams* is the module that defines the teams: its lines are logged as ours are, but without URLs.
    """
    levels = logging.getLevelNamesMapping()
    revealing = levels[libraries] < logging.WARNING
    threshold = levels[libraries] if revealing else max(levels[level], levels[libraries])
    package = teams and teams.partition(".")[0]

    def may_pass(record: logging.LogRecord) -> bool:
        where = origin(record.name, record.pathname, package)
        record.__dict__[_ORIGIN] = None if revealing else where
        return record.levelno >= (threshold if where is Origin.LIBRARY else levels[level])

    readable = style == "readable" or (style == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Readable() if readable else _Json())
    handler.addFilter(may_pass)
    logging.basicConfig(level=min(levels[level], threshold), handlers=[handler], force=True)
    threading.excepthook = _log_thread_error
    for name in _CHATTY:
        logging.getLogger(name).setLevel(threshold)
    for name in _FALSE_ALARMS:
        logging.getLogger(name).setLevel(logging.ERROR)


def configure_from(settings: Settings) -> None:
    """Send all logs of this process to stderr as the settings say."""
    configure(settings.log_level, style=settings.log_style, libraries=settings.log_libraries, teams=settings.teams)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "text": _text(record),
            **_fields(record),
        }
        return json.dumps(line, ensure_ascii=False, default=str).translate(_ESCAPES)


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        return f"{time} {record.levelname:<7} {_text(record)}{fields}".translate(_ESCAPES)


class _OfScripts(_Readable):
    """Where no program has set logging up: our lines with their fields, all others as Python writes them."""

    def format(self, record: logging.LogRecord) -> str:
        ours = record.name.partition(".")[0] in OURS
        return super().format(record) if ours else logging.Formatter.format(self, record)


def _quoted(value: object) -> str:
    """Return a value as text, in quotes if it could be taken for more than one field."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[\s="]', text) else text


def _text(record: logging.LogRecord) -> str:
    """Return the text of a record, without the message of an exception, which libraries put into their texts.

    For a record with an exception it is the first line of the text, before arguments are filled in: asyncio adds the
    exception in further lines. Celery fills its message and traceback into the text, so that is replaced.
    """
    task = _task(record)
    if task:
        text = f"task {task.get('description', 'failed')}"
    elif record.exc_info:
        text = str(record.msg).strip().split("\n", 1)[0]
    else:
        if isinstance(record.args, tuple):
            record.args = tuple(type(a).__name__ if isinstance(a, BaseException) else a for a in record.args)
        text = record.getMessage()
    return str(_shortened(text, record))


def _shortened(value: Any, record: logging.LogRecord) -> Any:
    where = getattr(record, _ORIGIN, None)
    return value if where in (None, Origin.OURS) else shortened(value, where)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    own = {name: value for name, value in vars(record).items() if name not in _PLAIN}
    fields: dict[str, object] = _bound.get() | _shortened(own, record)
    if record.exc_info and record.exc_info[1] is not None:
        fields |= _loggable({"error": record.exc_info[1]})
    task = _task(record)
    return fields | {f"task_{name}": task[name] for name in ("name", "id", "description") if name in task}


def _task(record: logging.LogRecord) -> dict[str, Any]:
    """Return what Celery says of a task that failed: its name, its id, and how; {}: the record is about none."""
    task = getattr(record, "data", None)
    return task if record.name == "celery.app.trace" and record.exc_info and isinstance(task, dict) else {}


def _log_thread_error(ended: threading.ExceptHookArgs) -> None:
    """Log that an exception ended a thread. Python itself would print the exception's message."""
    if not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else None
        Log(__name__).error("a thread ended on an unexpected error", thread_name=name, error=ended.exc_value)


def _loggable(fields: dict[str, object]) -> dict[str, object]:
    """Return *fields*, with an exception in `error` replaced by its code or type, and by its position in `at`."""
    error = fields.get("error")
    if not isinstance(error, BaseException):
        return fields
    code = error.code if isinstance(error, TeamSessionsError) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    last = [_position(frame) for frame in reversed(frames[-3:])]
    theirs = position_of_user(error)
    return {**fields, "error": code, "at": " < ".join([*last, theirs] if theirs and theirs not in last else last)}


def position_of_user(error: BaseException) -> str:
    """Return where the user's own code was when *error* was raised, as FILE:LINE without the path; '': nowhere."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((_position(frame) for frame in reversed(frames) if is_of_users(frame.filename)), "")


def _position(frame: traceback.FrameSummary) -> str:
    return f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"


if logging.lastResort is not None:  # a script that sets nothing up would see the text of a line without its fields
    logging.lastResort.setFormatter(_OfScripts())
