"""The tools that read a session's history: any message, in pages, and none of it twice in later contexts."""

import re
from typing import Any

import pytest

from tests.support.condensing import answer, begin, called, converse, finish
from tests.unit.list_journal import ListJournal, message
from worker import ScriptedModel, Team
from worker.clock import now
from worker.domain import Claim, Draft, Role, Stop, ToolCall
from worker.loop import history_tools
from worker.loop.conversation import Conversation, History
from worker.loop.definition import Limits
from worker.loop.user_loop import UserLoop
from worker.runs.session_history import SessionHistory
from worker.store import Database

LINES = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)


def read(db: Database, claim: Claim, name: str, *, tokens: int = 32_000, arguments: str = "{}") -> str:
    """Return the result of a call of a history tool in a claimed run."""
    definition = Team(id="t", model=ScriptedModel([])).definition
    assert definition.model is not None
    limits, journal = Limits(context_tokens=tokens), ListJournal(message(9_999, Role.USER, "now"))
    reader: Any = SessionHistory(db, claim)
    conversation = Conversation(
        definition,
        definition.model,
        limits,
        History(),
        journal,
        reader,
        lambda *_, **__: None,
        Stop(),  # type: ignore[arg-type, return-value]
        run_id="r",
        session_id="s",
        user_id="u",
        created_at=now(),
        silence_s=1.0,
        coroutines=UserLoop(),
    )
    return history_tools.answer(conversation, ToolCall("c", name, arguments))


@pytest.mark.parametrize("name", ["get_chat_history", "get_tool_call_history"])
def test_every_message_can_be_read_in_pages(db: Database, name: str) -> None:
    """From the newest to the first: each page ends with how to read on, and no message is lost or doubled."""
    converse(db, 60, turns=2)
    claim = begin(db)
    seen: list[str] = []
    arguments, pages = "{}", 0

    while arguments:
        page = read(db, claim, name, tokens=1_000, arguments=arguments)
        seen += [text for _, text in LINES.findall(page)]
        on = re.search(r"To read on, use before=(\d+)\.\)$", page)
        arguments, pages = f'{{"before": {on[1]}}}' if on else "", pages + 1
        assert len(page) <= 1_000

    expected = [
        text
        for n in reversed(range(60))
        for text in (
            (f"assistant: answer {n}", f"user: input {n}")
            if name == "get_chat_history"
            else tuple(f"look({{}}) returned: result {n}.{turn}" for turn in (1, 0))
        )
    ]
    assert seen == expected
    assert pages > 3


def test_a_page_can_begin_anywhere(db: Database) -> None:
    """The first messages of a long session are one call away."""
    converse(db, 50)

    page = read(db, begin(db), "get_chat_history", arguments='{"before": 4}')

    assert page == "[3] user: input 1\n[2] assistant: answer 0\n[1] user: input 0"


def test_a_message_longer_than_a_page_is_read_to_its_end(db: Database) -> None:
    """A page holds its beginning and says how to read on; the database reads no more than a page of it."""
    text = "".join(f"{n}; " for n in range(9_000))
    claim = begin(db, text)
    finish(db, claim, *called(text), answer())
    reader = begin(db)

    page = read(db, reader, "get_chat_history", arguments='{"before": 2}')
    parts = [page.removeprefix("[1] user: ")]
    while on := re.search(r"\n\(Cut here: [\d,]+ .* with message=(\d+) and begin=(\d+)\.\)$", parts[-1]):
        parts[-1] = parts[-1][: on.start()]
        rest = read(db, reader, "read_rest_of_message", arguments=f'{{"message": {on[1]}, "begin": {on[2]}}}')
        parts.append(rest)

    assert "".join(parts) == text
    assert len(parts) > 2
    assert max(map(len, parts)) <= history_tools.SIZE


def test_results_that_were_read_of_the_history_are_not_repeated(db: Database) -> None:
    """One reading of the chat leaves room for all other results."""
    converse(db, 5, turns=1)
    claim = begin(db)
    reply = Draft(Role.ASSISTANT, "t", "", (ToolCall("c", "get_chat_history", "{}"),))
    result = Draft(Role.TOOL, "get_chat_history", "[1] user: input 0 " * 1_000, (), "c")
    finish(db, claim, reply, result, answer())

    page = read(db, begin(db), "get_tool_call_history")

    lines = [text for _, text in LINES.findall(page)]
    assert lines[0] == "get_chat_history({}) returned: (18,000 characters of this history, which are not repeated.)"
    assert lines[1:] == [f"look({{}}) returned: result {n}.0" for n in reversed(range(5))]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("get_chat_history", '{"before": 0}', "before is 0. Expected 1 or more"),
        ("get_chat_history", '{"num_runs": -1}', "num_runs is -1"),
        ("read_rest_of_message", '{"message": 99}', "there is no message 99"),
        ("read_rest_of_message", '{"message": 1, "begin": -1}', "begin is -1. Expected 0 or more"),
        ("read_rest_of_message", "{}", "message: Field required"),
    ],
)
def test_what_cannot_be_read_is_an_error_for_the_model(db: Database, name: str, arguments: str, error: str) -> None:
    """Nothing fails."""
    result = read(db, begin(db), name, arguments=arguments)

    assert result.startswith("Error: ")
    assert error in result
