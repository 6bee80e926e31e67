"""What a message in a queue may say: one of our tasks, its id and its arguments. Nothing else in it is obeyed.

Anyone who can write to a queue can send any bytes. Celery and kombu trust a message: they raise errors of many kinds,
decompress bodies of any size, send the tasks that `link` or `chain` name, and put a message that was not acknowledged
into the queue that it names itself. So a message is read here first, and a new one is made of what may pass.

Celery's message protocol: https://docs.celeryq.dev/en/stable/internals/protocol.html.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kombu.utils.json import dumps, loads
from kombu.utils.uuid import uuid

from worker.domain import check_id

SENT_AT = "sent_at"  # header of a message: the time of the dispatch in the row
TRACEPARENT = "traceparent"  # header: the trace that the sender of an order belongs to
UNSUPPORTED = "unsupported"  # header: an option that the sender of an order used, and that no worker can honour
# The tasks that other services send.
ORDERS = ("runs.enqueue", "runs.continue")
# The tasks that only this package sends, with the types of their arguments.
IDS: dict[str, dict[str, type]] = {
    "runs.execute": {"run_id": str, "session_id": str, "team": str},
    "summaries.refresh": {"session_pk": int, "session_id": str, "team": str},
}
LARGEST_KEY = 2**63 - 1  # of a row
LONGEST = 1_000  # characters of a task's id and of a header
# Options of a Celery call that let it do more than its task, or at another time, by their names in a message.
OPTIONS = {
    "callbacks": "link",
    "errbacks": "link_error",
    "chain": "chain",
    "chord": "chord",
    "eta": "countdown or eta",
    "expires": "expires",
    "compression": "compression",
}


class NotATask(Exception):
    """A message that is none of our tasks. Its text is a reason without anything of the message."""


@dataclass(frozen=True, slots=True)
class _Content:
    task: Any
    task_id: Any
    args: Any
    kwargs: Any
    options: list[str]
    body: str | None  # as it came, if it says nothing but the arguments


def cleaned(item: Any, *, queue: str) -> dict[str, Any]:
    """Return the message to deliver in place of *item*, which was read from *queue* and decoded from JSON.

    Raises:
        NotATask: drop it.
    """
    try:
        content = _content(item)
        _check(content)
        return _message(content, item.get("headers") or {}, queue)
    except NotATask:
        raise
    except Exception as error:  # noqa: BLE001 - at any depth anything can be missing, or have another type than it should
        raise NotATask(f"malformed: {type(error).__name__}") from None


def _content(item: Any) -> _Content:
    headers, properties = item.get("headers") or {}, item["properties"]
    if headers.get("compression"):  # a small body can decompress to any size
        return _Content(headers["task"], headers["id"], [], {}, _used(headers), None)
    if item.get("content-type") != "application/json":
        raise NotATask("not JSON")
    encoding = properties.get("body_encoding") or "utf-8"
    if encoding not in ("base64", "utf-8"):
        raise NotATask("unknown encoding")
    body = item["body"]
    content = base64.b64decode(body) if encoding == "base64" else body
    decoded = loads(content)  # type: ignore[no-untyped-call]  # kombu has no types
    if isinstance(decoded, dict):  # version 1 of the protocol, or a mixture: all is in the body
        if decoded.keys().isdisjoint(("args", "kwargs")):
            raise NotATask("no arguments")
        about = {**decoded, **headers}
        args, kwargs = decoded.get("args") or [], decoded.get("kwargs") or {}
        return _Content(about["task"], about["id"], args, kwargs, _used(about), None)
    args, kwargs, embedded = decoded
    options = _used(headers) + _used(embedded or {})
    plain = encoding == "base64" and not any((embedded or {}).values())
    return _Content(headers["task"], headers["id"], args, kwargs, options, body if plain else None)


def _used(values: dict[str, Any]) -> list[str]:
    """Return the options that *values* sets, and those that were found before the message was put back."""
    before = [name for name in values.get(UNSUPPORTED) or [] if name in OPTIONS.values()]
    return before + [option for name, option in OPTIONS.items() if values.get(name)]


def _check(content: _Content) -> None:
    """Raise NotATask unless a task of ours can be called with this."""
    args, kwargs, task_id = content.args, content.kwargs, content.task_id
    if not isinstance(task_id, str) or not 0 < len(task_id) <= LONGEST:
        raise NotATask("no id")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise NotATask("no arguments")
    if content.task in ORDERS:
        return  # `runs/intake.py` and `runs/intake_decisions.py` check their arguments
    types = IDS.get(content.task)
    if types is None:
        raise NotATask("unknown task")
    if args or kwargs.keys() != types.keys():
        raise NotATask("wrong arguments")
    for name, expected in types.items():
        value = kwargs[name]
        if type(value) is not expected:
            raise NotATask("wrong arguments")
        if isinstance(value, str):
            check_id(value, field=name)
        if isinstance(value, int) and not 0 < value <= LARGEST_KEY:
            raise NotATask("wrong arguments")


def _message(content: _Content, headers: dict[str, Any], queue: str) -> dict[str, Any]:
    is_order = content.task in ORDERS
    kept: dict[str, Any] = {"lang": "py", "task": content.task, "id": content.task_id, "argsrepr": ""}
    kept["kwargsrepr"] = "" if is_order else repr(content.kwargs)  # monitors see them
    if is_order:
        kept |= _text(headers, TRACEPARENT)
        kept |= {UNSUPPORTED: content.options} if content.options else {}
    else:
        kept |= _time(headers, SENT_AT)
    body = content.body
    if body is None:
        text: str = dumps([content.args, content.kwargs, {}])  # type: ignore[no-untyped-call]  # as above
        body = base64.b64encode(text.encode()).decode()
    return {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": kept,
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": uuid(),
            # Where it is put back to. An exchange has the name of its queue: see `queue/app.py`.
            "delivery_info": {"exchange": queue, "routing_key": queue},
            "priority": 0,
            "correlation_id": content.task_id,
        },
    }


def _text(headers: dict[str, Any], name: str) -> dict[str, str]:
    value = headers.get(name)
    return {name: value} if isinstance(value, str) and len(value) <= LONGEST else {}


def _time(headers: dict[str, Any], name: str) -> dict[str, str]:
    found = _text(headers, name)
    return found if found and datetime.fromisoformat(found[name]).tzinfo is not None else {}
