"""What of a conversation is sent: bounded whatever was written, whole in the rows, and it says how to read on."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.list_journal import ListJournal, message
from worker.clock import now
from worker.domain import (
    ChatMessage,
    ChatRequest,
    Draft,
    Message,
    Reply,
    Role,
    Stop,
    begin_of,
    open_calls,
    weight,
)
from worker.errors import ModelContextExceeded
from worker.loop import window
from worker.loop.conversation import Conversation, History
from worker.loop.definition import Limits
from worker.loop.loop import converse
from worker.loop.tools import Tool, tool
from worker.loop.user_loop import UserLoop
from worker.loop.window import LEAST, READ_REST, Window, fit
from worker.models.event_loop import EventLoop
from worker.models.scripted import Calls, ScriptedModel
from worker.team import Team

SLACK = 200  # of one line at the end of a shortened text
REST = re.compile(rf"\(Cut here: ([\d,]+) more characters follow\. To read on, call {READ_REST} with message=(\d+)")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The parcel was sent on Monday. " * 40, (250, 400)),
        ("包裹已于星期一寄出。" * 100, (700, 1_300)),
        ("ありがとうございます" * 100, (700, 1_300)),
        ("감사합니다 " * 100, (300, 900)),
        ("Посылка отправлена в понедельник. " * 30, (250, 700)),
        ("🎉" * 200, (200, 700)),
        ("aGVsbG8gd29ybGQ" * 100, (600, 1_100)),
        ("d41d8cd98f00b204e9800998ecf8427e" * 50, (700, 1_200)),
        ('{"name": "Ada", "items": [1, 2, 3], "city": "Zürich"}' * 30, (300, 700)),
    ],
)
def test_text_weighs_about_what_it_costs(text: str, tokens: tuple[int, int]) -> None:
    """The ranges hold what the tokenizers of current models make of such text."""
    assert tokens[0] <= weight(text) / 4 <= tokens[1]


@given(st.text(max_size=300), st.integers(-5, 700))
def test_the_beginning_of_a_text_weighs_no_more_than_asked(text: str, limit: int) -> None:
    """And the whole text is taken where it fits."""
    begin = begin_of(text, limit)

    assert text.startswith(begin)
    assert weight(begin) <= max(0, limit)
    assert begin == text or weight(text) > limit


def turn(log: list[Message], *results: str, tool: str = "look") -> None:
    """Add a reply with calls, and their results."""
    first = log[-1].seq + 1
    ids = [f"c{first}_{n}" for n in range(len(results))]
    log.append(message(first, Role.ASSISTANT, "", *ids))
    for n, text in enumerate(results):
        log.append(message(first + 1 + n, Role.TOOL, text, result_of=ids[n]))


def weigh(history: History, log: Any) -> int:
    """Return the size of what is sent."""
    return weight(history.summary) + sum(weight(m.content) for m in (*history.messages, *log))


SIZES = st.sampled_from([0, 3, 150, 2_000, 9_000, 60_000])
TEXTS = st.sampled_from(["word ", "包裹", "🎉", "aGVsbG8gd29ybGQ"])


@given(
    runs=st.lists(st.lists(st.lists(SIZES, min_size=1, max_size=4), max_size=3), max_size=5),
    own=st.lists(st.lists(SIZES, min_size=1, max_size=4), max_size=12),
    words=TEXTS,
    summary=st.sampled_from([0, 8_000]),
    tokens=st.sampled_from([50, 1_000, 4_000, 32_000]),
)
def test_what_is_sent_is_bounded_whatever_was_written(
    runs: list[list[list[int]]], own: list[list[int]], words: str, summary: int, tokens: int
) -> None:
    """All kinds together: at most the context's size, save the input and the least of the last results."""
    past = [message(1, Role.USER, "begin")]
    for turns in runs:
        for results in turns:
            turn(past, *(words * (size // len(words)) for size in results))
        past.append(message(past[-1].seq + 1, Role.ASSISTANT, "answer"))
        past.append(message(past[-1].seq + 1, Role.USER, "input"))
    log = [past.pop()]
    for results in own:
        turn(log, *(words * (size // len(words)) for size in results))
    history, size = History(tuple(past), "s" * summary, 0), tokens * 4

    fitted = fit(history, log, size=size)

    lines = sum(READ_REST in m.content for m in (*fitted.history.messages, *fitted.log)) * SLACK
    last = LEAST * len(own[-1] if own else [])
    assert weigh(fitted.history, fitted.log) <= size + lines + last + SLACK
    assert fitted.log[0] == log[0]
    for part in (fitted.history.messages, fitted.log):
        assert not open_calls(list(part))
        assert all(m.role is not Role.TOOL or n for n, m in enumerate(part))
    whole = {m.seq: m for m in (*past, *log)}
    for m in (*fitted.history.messages, *fitted.log):
        if m != whole[m.seq]:
            found = REST.search(m.content)
            assert found is not None
            rest = int(found[1].replace(",", ""))
            assert int(found[2]) == m.seq
            assert m.content[: found.start() - 1] == whole[m.seq].content[: len(whole[m.seq].content) - rest]
    shown = {m.seq for m in (*fitted.history.messages, *fitted.log)}
    gone = {seq for seq in whole if seq not in shown}
    named = [r for r in (fitted.history.missing, fitted.history.own_missing) if r is not None]
    assert gone == {seq for first, last in named for seq in range(first, last + 1)}


def test_what_fits_is_sent_as_it_is() -> None:
    """Nothing is shortened or left out while there is room, so contexts begin alike."""
    log = [message(1, Role.USER, "hello")]
    turn(log, "found", "x " * 1_000)
    history = History(tuple(log), "Ada.", 0)

    fitted = fit(history, log, size=128_000)

    assert (fitted.history, fitted.log, fitted.cut) == (history, log, False)


def test_a_later_run_does_not_repeat_what_was_read_of_the_history() -> None:
    """A short line stands for the result of such a tool; in its own run it is whole."""
    log = [message(1, Role.USER, "hello"), message(2, Role.ASSISTANT, "", "c")]
    read = Message(3, "run", Role.TOOL, "get_chat_history", None, "[1] user: hello " * 90, (), "c", log[0].created_at)
    answer = message(4, Role.ASSISTANT, "ok")

    own = fit(History(), [*log, read], size=128_000)
    later = fit(History((*log, read, answer)), [message(5, Role.USER, "on")], size=128_000)

    assert own.log[2] == read
    assert later.history.messages[2].content == (
        "(get_chat_history returned 1,440 characters; call it again to read them.)"
    )


def test_the_tokens_that_came_back_correct_the_estimate() -> None:
    """A model that counts three times as much gets a third of the text; one that counts less gets no more."""
    log = [message(1, Role.USER, "hello")]
    for _ in range(8):
        turn(log, "word " * 1_000)
    request = ChatRequest((ChatMessage("user", "word " * 8_000),))
    sizes = []

    for tokens in (0, 10_000, 30_000, 30_000, 1_000):
        view = Window(10_000)
        view.learn(request, tokens)
        view.learn(request, tokens)
        sizes.append(weigh(History(), view.fit(History(), log).log))

    assert sizes[0] == sizes[1] == sizes[4]
    assert sizes[2] == sizes[3]
    assert sizes[2] <= 13_400 + 9 * SLACK
    assert sizes[0] > 30_000


class Strict:
    """A model with a window of characters, and a server that says so in its words."""

    def __init__(self, limit: int, *, says: bool) -> None:
        self.limit, self.says = limit, says
        self.inner = ScriptedModel([Calls(("dump", {})), "done", "done"])
        self.sizes: list[int] = []

    id = "strict"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        self.sizes.append(sum(len(m.content) for m in request.messages))
        if self.sizes[-1] > self.limit:
            known = {"limit": self.limit, "size": self.sizes[-1]} if self.says else {}
            raise ModelContextExceeded(model=self.id, reason="too long", **known)
        return await self.inner.reply(request, on_delta)


@tool
def dump() -> str:
    """Return a lot."""
    return "word " * 20_000


def ask(event_loop: EventLoop, model: Any, journal: Any, *tools: Tool, tokens: int = 32_000) -> Draft:
    """Converse with a team of this model."""
    limits = Limits(turns=50, tool_calls=50, context_tokens=tokens)
    definition = Team(model=model, tools=tools).definition
    parts = (definition, model, limits, History(), journal, journal, event_loop.ask, Stop())
    return converse(
        Conversation(
            *parts,
            run_id="run",
            session_id="s",
            user_id="u",
            created_at=now(),
            silence_s=60.0,
            coroutines=UserLoop(),
        )
    )


@pytest.mark.parametrize(("limit", "says"), [(20_000, True), (4_000, True), (15_000, False)])
def test_a_context_that_is_too_long_is_sent_once_more_and_smaller(
    event_loop: EventLoop, limit: int, says: bool
) -> None:
    """In the same run, whether the server says its limit or not; the row stays whole, and later contexts fit."""
    model, journal = Strict(limit, says=says), ListJournal()

    answer = ask(event_loop, model, journal, dump)

    assert answer.content == "done"
    assert [size > limit for size in model.sizes] == [False, True, False]
    assert journal.log[2].content == dump()
    sent = model.inner.requests[-1]
    assert REST.search(sent.messages[-1].content)
    assert READ_REST in {t.name for t in sent.tools}


def test_what_is_still_too_long_is_an_error_of_its_own(event_loop: EventLoop) -> None:
    """Not retried, and asked for once: the input is the user's, and is never cut."""
    model = Strict(1_000, says=True)

    with pytest.raises(ModelContextExceeded) as raised:
        ask(event_loop, model, ListJournal(message(1, Role.USER, "word " * 1_000)))

    assert (raised.value.code, raised.value.retry) == ("model_context_exceeded", False)
    assert len(model.sizes) == 1


def test_the_model_reads_on_in_a_result_that_is_cut(event_loop: EventLoop) -> None:
    """With a tool that it gets while something is cut; page by page, to the end, and nothing is lost."""
    text = "".join(f"{n}; " for n in range(12_000))
    read: list[str] = []

    def next_page(request: ChatRequest) -> Any:
        last = request.messages[-1].content
        found = re.search(r"\(Cut here: .* message=(\d+) and begin=(\d+)\.\)$", last)
        read.append(last[: found.start() - 1] if found else last)
        return Calls((READ_REST, {"message": int(found[1]), "begin": int(found[2])})) if found else "all read"

    @tool
    def numbers() -> str:
        """Count."""
        return text

    model = ScriptedModel([Calls(("numbers", {})), *[next_page] * 40])
    answer = ask(event_loop, model, ListJournal(), numbers, tokens=8_000)

    assert answer.content == "all read"
    assert "".join(read) == text
    assert READ_REST not in {t.name for t in model.requests[0].tools}


def test_a_run_of_many_results_stays_within_its_context(event_loop: EventLoop) -> None:
    """Thirty results of half a context: the newest is the longest, and older ones keep their beginning."""

    @tool
    def page(n: int) -> str:
        """Return a page."""
        return f"page {n} " * 3_000

    model = ScriptedModel([*(Calls(("page", {"n": n})) for n in range(30)), "done"])

    ask(event_loop, model, ListJournal(), page, tokens=4_000)

    for request in model.requests:
        assert sum(len(m.content) for m in request.messages) <= 16_000 + 31 * SLACK
    last = model.requests[-1].messages
    assert len(last[-1].content) == max(len(m.content) for m in last if m.role == "tool")
    assert sum(m.role == "tool" for m in last) >= 15


def test_a_long_own_log_loses_its_oldest_turns_at_last() -> None:
    """When even the least of all results is too much, the input and the newest turns stay."""
    log = [message(1, Role.USER, "hello")]
    for _ in range(40):
        turn(log, "word " * 200)

    fitted = fit(History(), log, size=4_000)

    assert fitted.log[0] == log[0]
    assert fitted.history.own_missing == (2, fitted.log[1].seq - 1)
    assert fitted.log[-1].seq == log[-1].seq


def test_history_that_was_read_in_part_says_how_much_follows() -> None:
    """The database reads the beginning of a long text; what follows is counted from the whole."""
    past = (message(1, Role.USER, "hello"), message(2, Role.ASSISTANT, "", "c"))
    result = message(3, Role.TOOL, "word " * 100, result_of="c")
    history = History((*past, result), lengths={3: 50_000})

    fitted = fit(history, [message(4, Role.USER, "on")], size=128_000)

    assert fitted.history.messages[2].content.endswith(window.rest_line(3, begin=500, length=50_000))
    assert "49,500 more characters" in fitted.history.messages[2].content
