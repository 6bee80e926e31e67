"""Streams that are cut anywhere, without a socket: nothing is missing and nothing comes twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_stub.client import Event, RequestFailed, Retries, Unreachable, calls
from api_stub.client.core import Answer, Lost
from api_stub.client.streams import EventParser, Garbled, Reading
from tests.client.story import EVENTS, behind, spelled

FIRM = Retries(count=3, pause_s=1.0, jitter=lambda: 0.0)
BROKEN = Lost("ReadError")
STORY = spelled(EVENTS)
WEIRD = (
    '\ufeffevent: a\r\nid: 1\r\ndata: {\rdata:  "x": 1\n: no\ndata: }\r\n\r\n'
    "id: 2\ndata: {}\nunknown: field\nretry: 5\nevent\nid\n\n"  # its id was taken back: it is none of ours
    'event: no-data\nid: 3\n\ndata: {"no": "id"}\n\nid: 4\0\ndata: {}\n\n'
    'id:5\ndata:{"ü": "🦉\u2028\x85"}\n\n\n\nid: 6\ndata: {}\n'
).encode()


def parsed(*pieces: bytes) -> list[Event]:
    """Return the events of a connection that brings these pieces."""
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def begun(reading: Reading[Any]) -> Any:
    reading.begin(FIRM, api="https://api.example")
    return reading


def test_events_are_the_same_wherever_they_are_cut() -> None:
    """Within a character, an end of line, a name: two pieces at any place, and one byte each."""
    whole = parsed(STORY)

    assert whole == EVENTS
    assert parsed(*[STORY[n : n + 1] for n in range(len(STORY))]) == EVENTS
    for cut in range(len(STORY) + 1):
        assert parsed(STORY[:cut], STORY[cut:]) == EVENTS


def test_every_spelling_of_the_standard_is_understood() -> None:
    """All ends of lines, comments, unknown fields, a byte order mark; what has no id or no end is left out."""
    expected = [Event("1", "a", {"x": 1}), Event("5", "message", {"ü": "🦉\u2028\x85"})]

    assert parsed(WEIRD) == expected
    for cut in range(len(WEIRD) + 1):
        assert parsed(WEIRD[:cut], WEIRD[cut:]) == expected


@given(st.binary())
def test_no_bytes_break_the_parser(noise: bytes) -> None:
    """They are events, or nothing, or garbled."""
    try:
        parsed(noise)
    except Garbled:
        return


@pytest.mark.parametrize("data", [b"no json", b"[]", b"1", b'"x"', b"{", b"\xff{}", b"[" * 100_000], ids=range(7))
def test_data_that_is_no_object_is_garbled(data: bytes) -> None:
    """What came before it has been read."""
    parser, seen = EventParser(), []

    with pytest.raises(Garbled):
        seen.extend(parser.feed(STORY + b"id: 3-1\ndata: " + data + b"\n\n"))

    assert seen == EVENTS


def watched(cuts: list[int | None], *, after: str | None = None) -> list[Event]:
    """Return what a watch reads from connections that break behind so many bytes (None: never)."""
    watch, seen = begun(calls.stream("r", after=after)), []
    for cut in cuts:
        body = behind(watch.request().headers.get("Last-Event-ID"))
        seen += watch.take(body[:cut])
        if watch.ended:
            break
        watch.failed(BROKEN)
    assert watch.ended
    return seen


def test_a_watch_goes_on_wherever_it_was_cut() -> None:
    """Behind each single byte of the stream, and from each event on."""
    for cut in range(len(STORY) + 1):
        assert watched([cut, None]) == EVENTS
    for place, event in enumerate(EVENTS[:-1], 1):
        assert watched([None], after=event.id) == EVENTS[place:]


@given(st.lists(st.integers(20, 400), max_size=60))
def test_a_watch_survives_any_number_of_cuts_while_it_gets_on(cuts: list[int]) -> None:
    """Each connection brings something, if only a comment: then there is no last try."""
    assert watched([*cuts, None]) == EVENTS


def test_a_story_that_is_told_again_is_read_once() -> None:
    """A proxy dropped the place where the reader was: what it knows it does not read again."""
    watch = begun(calls.stream("r"))
    seen = watch.take(STORY[: STORY.index(b"1-9") + 4])
    watch.failed(BROKEN)
    watch.request()

    seen += watch.take(STORY)

    assert seen == EVENTS


def test_a_watch_ends_with_the_run_and_reads_no_further() -> None:
    """Whatever stands behind the last event."""
    watch = begun(calls.stream("r"))

    assert watch.take(STORY + b"id: 9-9\nevent: x\ndata: {}\n\n") == EVENTS
    assert (watch.ended, watch.enough) == (True, True)
    watch.closed()


def test_behind_the_last_event_there_is_nothing_to_ask_for() -> None:
    """Its id says that it was the last."""
    assert calls.stream("r", after="2-0").ended
    assert not calls.stream("r", after="0-10").ended


@pytest.mark.parametrize("head", [(200, "text/html"), (200, "application/json"), (503, "text/event-stream"), (404, "")])
def test_only_a_stream_of_events_is_read(head: tuple[int, str]) -> None:
    """A login page with status 200 is not one."""
    assert not begun(calls.stream("r")).accepts(Answer(head[0], {"content-type": head[1]}, b""))
    assert begun(calls.stream("r")).accepts(Answer(200, {"content-type": "text/event-stream; charset=utf-8"}, b""))


def fail(watch: Any, *pieces: bytes) -> float:
    """One connection that brings these pieces and ends; return how long is waited then."""
    watch.request()
    for piece in pieces:
        watch.take(piece)
        if watch.enough:
            break
    watch.closed()
    return float(watch.pause_s)


def test_connections_that_bring_nothing_are_counted_and_those_that_live_are_not() -> None:
    """A run that waits for an hour has no events, but its comments say that all is well."""
    alive, dead = begun(calls.stream("r")), begun(calls.stream("r"))

    assert [fail(alive, b": still here\n\n") for _ in range(10)] == [1.0] * 10
    assert [fail(dead) for _ in range(3)] == [1.0, 2.0, 4.0]
    with pytest.raises(Unreachable, match="an end before the run's last event"):
        fail(dead)


def test_a_stream_that_is_garbled_at_the_same_place_is_given_up() -> None:
    """However often it is alive before, and behind the events that it did bring."""
    watch = begun(calls.stream("r"))

    assert fail(watch, STORY[:300], b"\n\nid: 7-7\ndata: garbage\n\n") == 1.0
    assert [fail(watch, b": still here\n\n", b"id: 7-7\ndata: garbage\n\n") for _ in range(2)] == [2.0, 4.0]
    with pytest.raises(Unreachable, match="not a JSON object"):
        fail(watch, b": still here\n\n", b"id: 7-7\ndata: garbage\n\n")


def test_a_refusal_ends_a_watch_and_a_service_that_is_away_does_not() -> None:
    """The run was erased meanwhile; the API is being deployed."""
    watch = begun(calls.stream("r"))

    watch.failed(Answer(503, {"retry-after": "2"}, b""))
    assert watch.pause_s == 3.0
    with pytest.raises(RequestFailed) as refused:
        watch.failed(Answer(404, {}, b'{"code": "run_not_found", "detail": "There is none."}'))
    assert refused.value.code == "run_not_found"


LINES = [{"a": 1}, {"b": "ü\u2028🦉"}, {"c": {"d": [None]}}]
EXPORT = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES).encode()


def test_lines_are_the_same_wherever_they_are_cut() -> None:
    """Two pieces at any place; the end of the body is the end."""
    for cut in range(len(EXPORT) + 1):
        lines = begun(calls.export_user("u"))
        lines.request()
        assert lines.take(EXPORT[:cut]) + lines.take(EXPORT[cut:]) == LINES
        lines.closed()
        assert lines.ended


def test_lines_that_break_off_are_an_error_behind_the_first() -> None:
    """They cannot be resumed, and what was read must not look like all of it."""
    for end in (lambda lines: lines.failed(BROKEN), lambda lines: lines.closed()):
        lines = begun(calls.export_user("u"))
        assert lines.take(EXPORT[:-3]) == LINES[:2]
        with pytest.raises(Unreachable, match="after 2 lines, which are not all"):
            end(lines)


def test_lines_that_have_not_begun_are_asked_for_again() -> None:
    """Nothing was given to the caller yet."""
    lines = begun(calls.export_user("u"))
    lines.request()
    lines.take(EXPORT[:5])
    lines.failed(BROKEN)

    lines.request()
    assert lines.take(EXPORT) == LINES
    lines.closed()
    assert lines.ended


def test_a_line_that_is_no_object_is_an_error() -> None:
    """What came before it was read."""
    lines = begun(calls.export_user("u"))
    lines.request()

    assert lines.take(EXPORT + b"garbage\n" + EXPORT) == LINES
    assert lines.enough
    with pytest.raises(Unreachable, match="after 3 lines, which are not all: data that is not a JSON object"):
        lines.closed()
