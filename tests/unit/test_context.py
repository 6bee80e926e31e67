"""The messages of one model call: their order, what is said of what is left out, and that no call loses its result."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.list_journal import message
from worker.domain import ChatMessage, Message, Role
from worker.loop import context, data_block
from worker.loop.conversation import History
from worker.loop.definition import Definition
from worker.team import Team

STATE = {"b": "ö", "a": 1}
STATE_BLOCK = '<session_state>\n{"a": 1, "b": "ö"}\n</session_state>'


def build(
    definition: Definition, history: History, log: Iterable[Message], state: dict[str, Any]
) -> tuple[ChatMessage, ...]:
    """A context of a team that offers the tool `note`."""
    return context.build(definition, history, log, state, tools={"note"})


def team(**options: Any) -> Definition:
    """A definition with instructions."""
    return Team(id="t", instructions=["Be kind.", "Be brief."], **options).definition


def turn(seq: int, call: str = "c") -> list[Message]:
    """A reply that calls a tool, and the result."""
    return [message(seq, Role.ASSISTANT, "", call), message(seq + 1, Role.TOOL, "found", result_of=call)]


def test_a_context_goes_from_what_stays_to_what_changes():
    """Instructions, summary, history, the run so far, and last the state: so a provider's cache hits its beginning."""
    past = History((message(11, Role.USER, "before"), message(12, Role.ASSISTANT, "answer")), "Ada likes tea.", 10)
    log = [message(13, Role.USER, "now"), *turn(14)]

    built = build(team(add_session_state_to_context=True), past, log, STATE)

    assert [(m.role, m.content) for m in built] == [
        (
            "system",
            f"Be kind.\nBe brief.\n\n{data_block.NOTE}",
        ),
        (
            "user",
            "Summary of this conversation so far (its messages 1 to 10):\n"
            "<session_summary>\nAda likes tea.\n</session_summary>\n\nbefore",
        ),
        ("assistant", "answer"),
        ("user", "now"),
        ("assistant", ""),
        ("tool", f"found\n\n{STATE_BLOCK}"),
    ]
    assert built[4].tool_calls[0].id == built[5].tool_call_id == "c"


def test_nothing_is_said_of_what_is_not_there():
    """No instructions, no summary, no history, no state: the run alone."""
    built = build(Team(id="t").definition, History(), [message(1, Role.USER, "now")], STATE)

    assert [(m.role, m.content) for m in built] == [("user", "now")]


def test_what_is_left_out_is_named_where_it_is_missing():
    """Behind the summary, before the first message; without a summary too."""
    shown = (message(31, Role.USER, "shown"),)
    line = "(Messages 21 to 30 are left out here for size.)"

    with_summary = build(Team(id="t").definition, History(shown, "Ada.", 20, (21, 30)), [], {})
    without = build(Team(id="t").definition, History(shown, missing=(1, 30)), [], {})

    assert [m.content for m in with_summary] == [
        data_block.NOTE,
        "Summary of this conversation so far (its messages 1 to 20):\n"
        f"<session_summary>\nAda.\n</session_summary>\n\n{line}\n\nshown",
    ]
    assert [m.content for m in without] == [f"{line.replace('21', '1')}\n\nshown"]


@given(
    past=st.lists(st.integers(0, 3), max_size=4),
    calls=st.integers(0, 4),
    state=st.booleans(),
    summary=st.sampled_from(["", "Ada."]),
)
def test_a_result_stands_right_behind_its_call(past: list[int], calls: int, state: bool, summary: str) -> None:
    """Whatever surrounds them: nothing comes between a reply's calls and their results, and none is lost or doubled."""
    said: list[Message] = []
    for turns in (*past, calls):
        said.append(message(len(said) + 1, Role.USER, "u"))
        for _ in range(turns):
            said += turn(len(said) + 1)  # the ids are the same in every turn
        said.append(message(len(said) + 1, Role.ASSISTANT, "a"))
    del said[-1]  # of the current run there is no answer yet
    cut = next((n for n in range(len(said) - 1, -1, -1) if said[n].role is Role.USER), 0)

    built = build(team(add_session_state_to_context=state), History(tuple(said[:cut]), summary), said[cut:], STATE)

    sent = [(m.role, m.content) for m in built if m.role != "system"]
    stored = [(m.role, m.content) for m in said]
    if summary:
        block = data_block.block(data_block.SUMMARY, summary)
        about = f"Summary of this conversation so far (its messages 1 to 0):\n{block}"
        stored[0] = ("user", f"{about}\n\n{stored[0][1]}")
    if state:
        role, last = stored[-1]
        stored[-1] = (role, f"{last}\n\n{STATE_BLOCK}")
    assert sent == stored
    for place, one in enumerate(built):
        if one.role == "tool":
            assert built[place - 1].tool_calls[0].id == one.tool_call_id


def test_the_context_of_a_later_turn_begins_with_that_of_an_earlier_one():
    """Between two calls it grows at its end only."""
    past = History((message(11, Role.USER, "before"), message(12, Role.ASSISTANT, "answer")), "Ada likes tea.", 10)
    log = [message(13, Role.USER, "now"), *turn(14), *turn(16)]

    earlier = build(team(), past, log[:3], {})
    later = build(team(), past, log, {})

    assert later[: len(earlier)] == earlier
