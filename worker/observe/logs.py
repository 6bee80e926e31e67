"""Logs: constant text, values in fields, one line each.

Readable on a terminal, JSON elsewhere. Whatever is logged inside `bound`, by us, a tool or a library, says which run it
is about; a thread that works for a run is started in a copy of its context. An exception is named by its type and place
only: its words can hold message text or a secret, and never get here.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from worker.errors import TeamSessionsError

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "data"}
# The first four write whole requests or orders at DEBUG, text included; the others say nothing that we do not.
_CHATTY = (
    *("openai", "httpx2", "httpcore2", "celery.pool"),
    *("kombu", "celery.worker.strategy", "alembic", "uvicorn", "flower.command"),
)
_ALARMIST = "kombu.transport.virtual.base"  # warns of a message that comes to a worker on its way out: it is put back
# C0 and C1 controls, line ends that only some programs know, marks that turn the direction of writing; surrogates.
_STEERING = (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
_SPELLED = {place: f"\\u{place:04x}" for place in _STEERING}
_NONE: dict[str, object] = {}
_bound: ContextVar[dict[str, object]] = ContextVar("fields of every line", default=_NONE)


class Log:
    """A logger whose values are fields: `log.warning("dispatch failed", run_id=…)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, text: str, **fields: object) -> None:
        """Say what helps to develop."""
        self._logger.debug(text, extra=_told(_bound.get() | fields))

    def info(self, text: str, **fields: object) -> None:
        """Say what happened."""
        self._logger.info(text, extra=_told(_bound.get() | fields))

    def warning(self, text: str, **fields: object) -> None:
        """Say what went wrong and mends itself."""
        self._logger.warning(text, extra=_told(_bound.get() | fields))

    def error(self, text: str, **fields: object) -> None:
        """Say what somebody has to look at."""
        self._logger.error(text, extra=_told(_bound.get() | fields))


def get(name: str) -> Log:
    """Return the log of one module."""
    return Log(name)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add *fields* to every line that is logged inside the block, on this thread and on those that copy its context."""
    token = _bound.set(_bound.get() | fields)
    try:
        yield
    finally:
        _bound.reset(token)


def configure(level: str, *, style: Literal["auto", "json", "readable"] = "auto") -> None:
    """Send all logs of this process to stderr, one line each; 'auto' is readable on a terminal, else JSON."""
    readable = style == "readable" or (style == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Readable() if readable else _Json())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    threading.excepthook = _of_thread
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    logging.getLogger(_ALARMIST).setLevel(logging.ERROR)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "text": _text(record),
            **_fields(record),
        }
        return json.dumps(line, ensure_ascii=False, default=str).translate(_SPELLED)


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return f"{time} {record.levelname:<7} {_text(record)}{fields}".translate(_SPELLED)


def _text(record: logging.LogRecord) -> str:
    """Return what the record says, without the words of an exception: others put them into their texts.

    With an exception it is the text before anything was filled in, and of that the first line: Celery fills in words
    and traceback of a task that failed, asyncio has them in its further lines.
    """
    if record.exc_info:
        return str(record.msg).strip().split("\n", 1)[0]
    if isinstance(record.args, tuple):
        record.args = tuple(type(a).__name__ if isinstance(a, BaseException) else a for a in record.args)
    return record.getMessage()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = _bound.get() | {name: value for name, value in vars(record).items() if name not in _PLAIN}
    if record.exc_info and record.exc_info[1] is not None:
        fields |= _told({"error": record.exc_info[1]})
        about = getattr(record, "data", None)  # of Celery: which task it was, and what became of it
        about = about if isinstance(about, dict) else {}
        fields |= {f"task_{name}": about[name] for name in ("name", "id", "description") if name in about}
    return fields


def _of_thread(ended: threading.ExceptHookArgs) -> None:
    """Say that a thread ended by an exception; Python itself would print its words."""
    if not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else None
        Log(__name__).error("a thread ended on an unexpected error", thread_name=name, error=ended.exc_value)


def _told(fields: dict[str, object]) -> dict[str, object]:
    told = dict(fields)
    error = told.get("error")
    if isinstance(error, BaseException):
        told["error"] = error.code if isinstance(error, TeamSessionsError) else type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        told["at"] = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
    return told
