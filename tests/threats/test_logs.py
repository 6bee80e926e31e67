"""Logs: no value forges a line in them, and no exception writes its message there."""

import asyncio
import gc
import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from celery.app.trace import LOG_FAILURE

from worker.cli.supervise import label
from worker.observe import logs

SECRET = "the words of a user"
HOSTILE = {
    "a line end": "x\nERROR forged",
    "a carriage return": "x\rERROR forged",
    "line ends of Unicode": "x\u2028ERROR forged\u2029ERROR forged\x85ERROR forged",
    "a form feed and its kind": "x\x0bERROR forged\x0cERROR forged\x1eERROR forged",
    "a colour": "\x1b[31mERROR forged\x1b[0m",
    "a colour in one byte": "\x9b31mERROR forged",
    "a clear screen and a title": "\x1b[2J\x1b]0;forged\x07",
    "backspaces": "x\b\b\b\bERROR forged",
    "a delete": "x\x7fERROR forged",
    "a turned direction": "x\u202eforged\u2066\u2069",
    "NUL": "x\0y",
    "a lone surrogate": "x\ud800y",
    "placeholders": "%s %(name)s {0} {run.__class__}",
    "another language": "Überprüfung 検査 🙂",
}
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Read what was written to stderr; afterwards the root logger is as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, threading.excepthook)
    yield lambda: capfd.readouterr().err
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    threading.excepthook = before[2]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("style", ["json", "readable"])
def test_a_value_stays_in_its_field(style: str, value: str, captured: Callable[[], str]) -> None:
    """One line each, for any value, in the package's lines and in those of libraries; JSON returns it unchanged."""
    logs.configure("INFO", style=style)  # type: ignore[arg-type]  # a parameter

    logs.get("ours").warning("order refused", task_id=value)
    logging.getLogger("theirs").warning("401 GET /%s", value)

    text = captured()
    assert len(text.splitlines()) == text.count("\n") == 2
    assert not STEERING.search(text)
    if style == "json":
        ours, theirs = map(json.loads, text.splitlines())
        assert (ours["task_id"], theirs["text"]) == (value, f"401 GET /{value}")


def raise_words() -> None:
    raise sqlite3.IntegrityError(f"Failing row contains ({SECRET})")


def fail_in_a_task() -> None:
    """As Celery says it: the words and the traceback are filled into its text."""
    try:
        raise_words()
    except sqlite3.IntegrityError as error:
        context = {"id": "t1", "name": "runs.enqueue", "description": "raised unexpected", "exc": repr(error)}
        extra = {"data": context | {"args": SECRET}}
        logging.getLogger("celery.app.trace").error(
            LOG_FAILURE, context | {"traceback": SECRET}, exc_info=True, extra=extra
        )


def fail_in_a_text() -> None:
    """As many say it: the exception is a value of the text."""
    try:
        raise_words()
    except sqlite3.IntegrityError as error:
        logging.getLogger("theirs").error("connection lost: %r (%s)", error, error)


def fail_in_a_thread() -> None:
    thread = threading.Thread(target=raise_words, name="keeper")
    thread.start()
    thread.join()


def fail_where_nobody_waits() -> None:
    """As asyncio does it: the exception is in a text that is composed before it is logged."""

    async def forget() -> None:
        async def fail() -> None:
            raise_words()

        task = asyncio.create_task(fail())
        with suppress(TimeoutError):
            await asyncio.wait([task])

    asyncio.run(forget())
    gc.collect()


@pytest.mark.parametrize("style", ["json", "readable"])
@pytest.mark.parametrize("fail", [fail_in_a_task, fail_in_a_text, fail_in_a_thread, fail_where_nobody_waits])
def test_an_exception_is_named_without_its_words(
    style: str, fail: Callable[[], None], captured: Callable[[], str]
) -> None:
    """From any logger: its type is there, in one line, without its message."""
    logs.configure("INFO", style=style)  # type: ignore[arg-type]  # a parameter

    fail()

    text = captured()
    assert text.count("\n") == 1, text
    assert "IntegrityError" in text
    assert SECRET not in text


def test_a_failed_task_is_named_by_its_id(captured: Callable[[], str]) -> None:
    """The line names the task, so that its sender can be asked."""
    logs.configure("INFO", style="json")

    fail_in_a_task()

    line = json.loads(captured())
    assert (line["task_name"], line["task_id"], line["error"]) == ("runs.enqueue", "t1", "IntegrityError")
    assert line["task_description"] == "raised unexpected"
    assert line["at"].startswith("test_logs.py:")


@pytest.mark.parametrize(
    ("line", "labelled"),
    [
        ('{"text": "a\\u2028b"}', '{"process": "worker-1", "text": "a\\u2028b"}'),
        ("{}", "worker-1  | {}"),
        ('{"cut": ', 'worker-1  | {"cut": '),
        ("plain", "worker-1  | plain"),
        ("", "worker-1  | "),
    ],
)
def test_up_adds_the_process_to_each_line_and_leaves_json_readable(line: str, labelled: str) -> None:
    """Off a terminal its lines are JSON, for a program that reads them."""
    assert label(line, "worker-1") == labelled


def test_a_readable_value_is_quoted_where_it_could_be_taken_for_two(captured: Callable[[], str]) -> None:
    """`key=value` stays one pair."""
    logs.configure("INFO", style="readable")

    logs.get("ours").info("attempt ended", outcome="handed over", team="plain", detail='a="b"')

    assert captured().endswith('attempt ended outcome="handed over" team=plain detail="a=\\"b\\""\n')
