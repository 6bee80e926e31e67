"""Which recorded result a call of a replay gets."""

import pytest

from tests.unit.list_journal import INPUT, message
from worker.domain import Message, Role, ToolCall
from worker.errors import ReplayDiverged
from worker.loop.recorded import Recorded, canonical


def asking(seq: int) -> Message:
    """A reply with two equal calls, whose ids are those of every other such reply."""
    reply = message(seq, Role.ASSISTANT, "", "a", "b")
    object.__setattr__(reply, "tool_calls", (ToolCall("a", "note", "{}"), ToolCall("b", "note", "{}")))
    return reply


def result(seq: int, call: str, text: str) -> Message:
    """What the tool returned."""
    return message(seq, Role.TOOL, text, result_of=call)


RECORDED = Recorded([INPUT, asking(2), result(3, "b", "2nd"), result(4, "a", "1st"), asking(5), result(6, "a", "3rd")])


@pytest.mark.parametrize("answered", [[], ["a"], ["b"], ["a", "b"]])
def test_a_calls_result_does_not_depend_on_which_others_have_theirs(answered: list[str]) -> None:
    """The place of a call among its equals is its place in the log, before a crash and after it."""
    log = [INPUT, asking(12), *(result(13 + n, call, "") for n, call in enumerate(answered))]

    assert [RECORDED.result(log, log[1], place) for place in (0, 1)] == ["1st", "2nd"]


def test_a_later_reply_counts_the_calls_of_the_earlier_ones() -> None:
    """By their places, whatever their ids; and a recorded call without a result has none to serve."""
    log = [INPUT, asking(2), result(3, "a", ""), result(4, "b", ""), asking(5)]

    assert RECORDED.result(log, log[4], 0) == "3rd"
    with pytest.raises(ReplayDiverged, match="'note'"):
        RECORDED.result(log, log[4], 1)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a": 1, "b": [1.0, 2e0]}', '{"b":[1,2],"a":1.0}', True),
        ("", "{}", True),
        ('"\\u00e4"', '"ä"', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": null}', "{}", False),
        ("[1, 2]", "[2, 1]", False),
        ("no JSON", "no JSON", True),
        ("no JSON", "no  JSON", False),
        ("[" * 100_000, "[" * 100_000, True),
        ("1e400", "-1e400", False),
    ],
)
def test_arguments_are_compared_as_json(one: str, other: str, equal: bool) -> None:
    """Spelling, the order of keys and the kind of number make no difference; everything else does."""
    first, second = (canonical(ToolCall("c", "note", arguments)) for arguments in (one, other))

    assert (first == second) == equal
