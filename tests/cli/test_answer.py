"""What is printed of a run: each word once, whatever became of its stream, and nothing that steers a terminal."""

import os
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from api_stub.client import Event
from tests.support.system import ROOT
from tests.support.terminal import Terminal
from worker.cli.answer import DELEGATES, PAUSES, Answer
from worker.clock import now, rfc3339
from worker.errors import ModelError
from worker.loop import delegate

ENDED = ("run.completed", {"id": "r", "status": "completed"})
Printed = Callable[..., tuple[str, str]]


def delta(text: str, message_id: str = "1") -> tuple[str, dict[str, Any]]:
    return "message.delta", {"message_id": message_id, "author": "t", "delegation": None, "delta": text}


def whole(text: str, message_id: str = "1", *, role: str = "assistant") -> tuple[str, dict[str, Any]]:
    data = {"message_id": message_id, "role": role, "author": "t", "delegation": None, "content": text}
    return "message.completed", data


def numbered(*events: tuple[str, dict[str, Any]]) -> list[Event]:
    return [Event(f"1-{n}", type, data) for n, (type, data) in enumerate(events, 1)]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return what an answer's events print, to stdout and to stderr."""

    def show(*events: tuple[str, dict[str, Any]]) -> tuple[str, str]:
        answer = Answer()
        assert answer.show(numbered(*events, ENDED)) == ENDED[1]
        assert answer.last_id == f"1-{len(events) + 1}"
        return capsys.readouterr()

    return show


def test_each_word_is_printed_once(printed: Printed) -> None:
    """Its deltas, then what they lacked; all of it where there were none. A call of a tool says nothing."""
    assert printed(delta("Hel"), delta("lo"), whole("Hello")) == ("Hello\n", "")
    assert printed(delta("Hel"), whole("Hello")) == ("Hello\n", "")
    assert printed(whole("hi", "0", role="user"), whole(""), whole("Hello", "3")) == ("Hello\n", "")
    assert printed(delta("One"), whole("One"), delta("Two", "3"), whole("Two", "3")) == ("One\nTwo\n", "")
    assert printed(whole("a\n\nb\n")) == ("a\n\nb\n\n", "")


def test_a_gap_in_the_stream_is_made_good(printed: Printed) -> None:
    """Deltas in the middle of a message were lost; a whole message is told again, to one who came back."""
    assert printed(delta("He"), delta("o"), whole("Hello")) == ("Heo\nHello\n", "")
    assert printed(whole("One"), delta("T", "3"), whole("One"), whole("Two", "3")) == ("One\nTwo\n", "")


def test_an_answer_that_is_begun_anew_says_so(printed: Printed) -> None:
    """Its worker was lost; one that waits for its model says until when."""
    lost = ("message.restarted", {"message_id": "1"})
    late = (
        "run.requeued",
        {"run_id": "r", "reason": "model_rate_limited", "not_before": "2026-01-01T00:00:00.000000Z"},
    )

    out, err = printed(delta("Hel"), lost, delta("Hello"), whole("Hello"))
    assert (out, err) == ("Hel\nHello\n", "[the worker was lost; another one continues]\n")
    assert printed(late) == ("", "[the model answers 429; next try now]\n")
    assert printed(("message.restarted", {"message_id": "9"})) == ("", "")


def test_a_pause_says_why_and_how_long(printed: Printed) -> None:
    """In seconds from now, not as a time of another clock."""
    later = rfc3339(now() + timedelta(minutes=10))

    def pause(reason: str) -> str:
        return printed(("run.requeued", {"run_id": "r", "reason": reason, "not_before": later}))[1]

    assert re.fullmatch(r"\[the model answers 429; next try in (5\d\d|600) s\]\n", pause("model_rate_limited"))
    assert pause("model_of_tomorrow").startswith("[model_of_tomorrow; next try in ")
    assert {error.code for error in errors_that_pause()} <= PAUSES.keys()


def errors_that_pause() -> list[type[ModelError]]:
    """The errors of a model after which its run waits."""
    children = [ModelError]
    for each in children:
        children += each.__subclasses__()
    return [each for each in children if each.retry and each.code.startswith("model_")]  # not those of summaries


def test_an_answer_that_broke_off_ends_its_line(printed: Printed) -> None:
    """Cancelled within a word: what comes next stands below it."""
    assert printed(delta("Hel")) == ("Hel\n", "")


def test_members_are_told_and_their_words_are_not(printed: Printed) -> None:
    """The call by which a leader delegates is told as the delegation that it is."""
    member = {"delegation": "2.0", "member": "a", "author": "t"}
    call = {"tool_call_id": "c", "name": delegate.NAME, "author": "t", "delegation": None}
    inner = {"tool_call_id": "d", "name": "look_up", "author": "a", "delegation": "2.0"}
    said = {"message_id": "2.0-1", "role": "assistant", "author": "a", "delegation": "2.0", "content": "I say"}

    out, err = printed(
        ("tool_call.started", call),
        ("delegation.started", member),
        ("message.delta", {**said, "delta": "I say"}),
        ("tool_call.started", inner),
        ("message.completed", said),
        ("delegation.completed", member),
        ("tool_call.completed", call),
        ("tool_call.started", {**call, "name": "search"}),
        ("an.event.of.tomorrow", {}),
    )

    assert (out, err) == ("", "[→ a]\n[a: look_up]\n[← a]\n[search]\n")
    assert delegate.NAME == DELEGATES


STEERS = "red \x1b[31mnow\x1b]0;title\x07 \x9b2J back\rover\n\ttab é🦉"


def test_an_answer_cannot_steer_the_terminal() -> None:
    """Its control characters are shown as such; a line and a tab are what they are."""
    code = (
        "from tests.cli.test_answer import *; from worker.cli.terminal import guard; guard(); "
        "Answer().show(numbered(delta(STEERS), whole(STEERS), ('tool_call.started', {'name': 'x\\x1b[2J', "
        "'author': 't', 'delegation': None}), ENDED))"
    )
    terminal = Terminal([sys.executable, "-c", code], environment=dict(os.environ), directory=ROOT)
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()

    assert terminal.raw == (
        "red \ufffd[31mnow\ufffd]0;title\ufffd \ufffd2J backover\r\n\ttab é🦉\r\n\x1b[2m[x\ufffd[2J]\x1b[0m\r\n"
    )


def test_into_a_pipe_an_answer_goes_as_it_is(printed: Printed) -> None:
    """Whoever reads it there wants what the model said."""
    assert printed(delta(STEERS), whole(STEERS))[0] == STEERS + "\n"
