"""What a message may say: a task of ours with its arguments. Everything else is dropped, or left out."""

import base64
import json
from typing import Any

import pytest
from kombu.utils.json import loads

from worker.queue.envelope import IDS, SENT_AT, UNSUPPORTED, NotATask, cleaned

RUN = {"run_id": "run_1", "session_id": "s", "team": "t"}
ORDER = {"team": "t", "input": "hello"}


def encoded(content: object) -> str:
    """Return a body as Celery encodes it."""
    return base64.b64encode(json.dumps(content).encode()).decode()


def message(task: Any = "runs.execute", kwargs: Any = RUN, *, embed: Any = None, **headers: Any) -> dict[str, Any]:
    """Return a message as Celery sends it."""
    return {
        "body": encoded([[], kwargs, embed or {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": "id", **headers},
        "properties": {"body_encoding": "base64", "delivery_tag": "tag", "delivery_info": {}},
    }


def without(name: str) -> dict[str, Any]:
    """Return a message that lacks a field."""
    return {field: value for field, value in message().items() if field != name}


def with_body(body: object, **properties: Any) -> dict[str, Any]:
    """Return a message with this body as it stands."""
    whole = message()
    return {**whole, "body": body, "properties": {**whole["properties"], **properties}}


NO_TASKS = {
    "null": None,
    "number": 5,
    "text": "x",
    "list": [],
    "nested list": [[[]]],
    "empty": {},
    **{f"no {name}": without(name) for name in ("body", "content-type", "headers", "properties")},
    **{f"{name} is a list": {**message(), name: ["x"]} for name in message() if name != "content-encoding"},
    **{f"{name} is a number": {**message(), name: 5} for name in message() if name != "content-encoding"},
    "pickle": {**message(), "content-type": "application/x-python-serialize"},
    "unknown encoding": with_body("e30=", body_encoding="zip"),
    "encoding of another type": with_body("e30=", body_encoding=["base64"]),
    "no Base64": with_body("a"),
    "no UTF-8": with_body("//4="),
    "no JSON": with_body(base64.b64encode(b"hello").decode()),
    "deep": with_body(base64.b64encode(b"[" * 5000).decode()),
    "long number": with_body("1" * 5000, body_encoding="utf-8"),
    "two elements": with_body(encoded([[], RUN])),
    "arguments are text": with_body(encoded(["ab", RUN, {}])),
    "arguments are a list": with_body(encoded([[], [1], {}])),
    "embedded list": with_body(encoded([[], RUN, ["x"]])),
    "tag of no type": with_body(encoded([[], {**RUN, "team": {"__type__": "x", "__value__": 1}}, {}])),
    "task of another kind": message(task={"a": 1}),
    "unknown task": message(task="celery.backend_cleanup"),
    "no id": message(id=None),
    "number as id": message(id=7),
    "long id": message(id="x" * 2000),
    "fewer ids": message(kwargs={"run_id": "r"}),
    "more than ids": message(kwargs={**RUN, "more": 1}),
    "list as id of a run": message(kwargs={**RUN, "run_id": ["r"]}),
    "NUL in an id": message(kwargs={**RUN, "run_id": "a\0b"}),
    "surrogate in an id": message(kwargs={**RUN, "run_id": "\ud800"}),
    "long id of a run": message(kwargs={**RUN, "run_id": "x" * 300}),
    "text as key": message("summaries.refresh", {"session_pk": "1", "session_id": "s", "team": "t"}),
    "truth as key": message("summaries.refresh", {"session_pk": True, "session_id": "s", "team": "t"}),
    "huge key": message("summaries.refresh", {"session_pk": 2**64, "session_id": "s", "team": "t"}),
    "compressed": message(compression="zlib"),
    "no time": message(sent_at="soon"),
    "version 1 without a task": {**with_body(encoded({"id": "i", "kwargs": RUN})), "headers": {}},
}


@pytest.mark.parametrize("item", NO_TASKS.values(), ids=NO_TASKS)
def test_what_is_no_task_is_dropped(item: object) -> None:
    """With a reason that holds nothing of it."""
    with pytest.raises(NotATask) as error:
        cleaned(item, queue="runs")

    assert str(error.value).split(":")[0] in {
        *("malformed", "not JSON", "unknown encoding", "no id", "no arguments", "unknown task", "wrong arguments")
    }


def test_nothing_but_a_task_and_its_arguments_passes() -> None:
    """No other task follows, no time, limit, retry or name is set, and it returns to its own queue."""
    embed = {
        "callbacks": [{"task": "x"}],
        "errbacks": [{"task": "x"}],
        "chain": [{"task": "x"}],
        "chord": {"task": "x"},
    }
    headers = {"eta": "2030-01-01T00:00:00Z", "expires": "2000-01-01T00:00:00Z", "retries": 10**9}
    headers |= {"timelimit": [0, 0], "group": "g", "shadow": "x", "stamps": {"a": 1}, "stamped_headers": ["a"]}
    item = message(embed=embed, **headers, **{SENT_AT: "2026-01-01T00:00:00+00:00"})
    item["properties"] |= {"reply_to": "unacked", "priority": 9, "delivery_info": {"exchange": "", "routing_key": "x"}}

    passed = cleaned(item, queue="runs")

    assert loads(base64.b64decode(passed["body"])) == [[], RUN, {}]
    assert passed["headers"].keys() == {"lang", "task", "id", "argsrepr", "kwargsrepr", SENT_AT}
    assert passed["properties"]["delivery_info"] == {"exchange": "runs", "routing_key": "runs"}
    assert passed["properties"]["delivery_tag"] != "tag"
    assert passed["properties"]["priority"] == 0
    assert "reply_to" not in passed["properties"]


def test_a_time_without_a_zone_is_left_out() -> None:
    """It could not be compared with the database's."""
    assert SENT_AT not in cleaned(message(sent_at="2026-01-01T00:00:00"), queue="runs")["headers"]


def test_a_message_that_was_put_back_passes_unchanged() -> None:
    """Also what is refused about it."""
    first = cleaned(message("runs.enqueue", ORDER, embed={"callbacks": ["x"]}), queue="enqueue")

    again = cleaned(first, queue="enqueue")

    assert first["headers"][UNSUPPORTED] == ["link"]
    assert (again["headers"], again["body"]) == (first["headers"], first["body"])


@pytest.mark.parametrize("headers", [{}, {"task": "runs.enqueue", "id": "i"}], ids=["version 1", "mixed"])
def test_an_order_in_the_older_form_passes(headers: dict[str, Any]) -> None:
    """As clients in other languages send it; an option is found in it, too."""
    body = {"task": "runs.enqueue", "id": "i", "args": [], "kwargs": ORDER, "expires": "2030-01-01T00:00:00Z"}

    passed = cleaned({**with_body(encoded(body)), "headers": headers}, queue="enqueue")

    assert loads(base64.b64decode(passed["body"])) == [[], ORDER, {}]
    assert (passed["headers"]["id"], passed["headers"][UNSUPPORTED]) == ("i", ["expires"])


def test_the_ids_of_each_task_of_ours_pass() -> None:
    """As `domain/dispatch.py` makes them."""
    for task, types in IDS.items():
        kwargs = {name: "x" if kind is str else 1 for name, kind in types.items()}
        assert cleaned(message(task, kwargs), queue="runs")["headers"]["kwargsrepr"] == repr(kwargs)
