"""What a watcher is shown: everything once, in order, from wherever it goes on, whatever became of Redis."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api_stub.client import Client
from tests.api.door import Door, Event, read_events
from tests.support.system import wait_until

TERMINAL = ("run.completed", "run.failed", "run.cancelled")


def check_whole(door: Door, run: dict[str, Any], events: list[Event]) -> None:
    """Check what is true of every run's events: first, last, order, and each message once, as the history has it."""
    assert (events[0].id, events[0].type) == ("0-1", "run.queued")
    queued = {"run_id": run["id"], "session_id": run["session_id"], "team": run["team"], "position": run["position"]}
    assert events[0].data == queued
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert [event.type for event in events if event.type in TERMINAL] == [events[-1].type] == [f"run.{run['status']}"]
    assert events[-1].data == run
    history = [message for message in door.messages(run) if message["run_id"] == run["id"]]
    shown = sorted((e.data for e in events if e.type == "message.completed"), key=lambda data: data["seq"])
    assert [{k: v for k, v in data.items() if k != "message_id"} for data in shown] == [
        {k: v for k, v in message.items() if k not in ("run_id", "created_at")} for message in history
    ]


def check_resuming(door: Door, run: dict[str, Any], events: list[Event]) -> None:
    """Check that a reader who goes on behind any event is shown the rest, without gap or double."""
    with ThreadPoolExecutor(8) as pool:
        rests = list(pool.map(lambda event: door.events(run["id"], after=event.id), events))

    assert rests == [events[n:] for n in range(1, len(events) + 1)]


def until_delta(door: Door, run_id: str) -> list[Event]:
    """Watch a run until the first piece of its answer, then leave."""
    seen: list[Event] = []
    with door.http.stream("GET", f"/v1/runs/{run_id}/events") as answer:
        for text in answer.iter_text():
            seen += read_events(text)
            if any(event.type == "message.delta" for event in seen):
                break
    return seen


def test_a_run_with_tools_tells_its_story(door: Door) -> None:
    """Each step in its place; the deltas of a message add up to it; the terminal event is the run."""
    run = door.enqueue("[steps=2] [words=12] [pace=0.03] go", team="with-tool")

    events = door.events(run["id"])
    run = door.run(run["id"])

    check_whole(door, run, events)
    turn = ["message.completed", "tool_call.started", "message.completed", "tool_call.completed"]
    assert [event.type for event in events if event.type != "message.delta"] == [
        *("run.queued", "run.started", "message.completed", *turn, *turn, "message.completed", "run.completed")
    ]
    assert events[1].data == {"run_id": run["id"], "attempt": 1}
    deltas = [event for event in events if event.type == "message.delta"]
    answer = events[-2].data
    assert events[-2 - len(deltas) : -2] == deltas
    assert len(deltas) > 2
    assert "".join(event.data["delta"] for event in deltas) == answer["content"] == run["output"]
    sources = {(e.data["message_id"], e.data["author"], e.data["delegation"]) for e in deltas}
    assert sources == {(answer["message_id"], "with-tool", None)}
    calls = [event.data["tool_calls"][0]["id"] for event in events if event.data.get("tool_calls")]
    for kind in ("tool_call.started", "tool_call.completed"):
        received = [(e.data["tool_call_id"], e.data["name"]) for e in events if e.type == kind]
        assert received == [(call, "look_up") for call in calls]
    check_resuming(door, run, events)


def test_a_watcher_may_leave_and_come_back(door: Door) -> None:
    """Leaving cancels nothing; what was shown before and after it came back is the whole."""
    run = door.enqueue("[words=40] [pace=0.05] go")

    seen = until_delta(door, run["id"])
    assert door.run(run["id"])["status"] == "running"
    seen += door.events(run["id"], after=seen[-1].id)

    run = door.run(run["id"])
    assert run["status"] == "completed"
    assert seen == door.events(run["id"])
    check_whole(door, run, seen)


def test_an_ended_run_is_told_from_the_database_when_its_stream_is_lost(door: Door) -> None:
    """Every message and one end, and a reader can go on behind each of these too."""
    run = door.ended(door.enqueue("[steps=1] [words=5] go", team="with-tool")["id"])
    door.redis.flushall()

    events = door.events(run["id"])

    assert [e.type for e in events] == ["run.queued", *["message.completed"] * 4, "run.completed"]
    check_whole(door, run, events)
    check_resuming(door, run, events)


def test_a_message_is_known_by_one_id_whoever_tells_it(door: Door) -> None:
    """Its deltas came from the stream, which is lost; the whole that the database tells replaces them."""
    run = door.enqueue("[words=12] [pace=0.05] go")
    seen = until_delta(door, run["id"])
    run = door.ended(run["id"])
    door.redis.flushall()

    rest = door.events(run["id"], after=seen[-1].id)

    received = {event.data["message_id"]: event.data for event in rest if event.type == "message.completed"}
    assert received[seen[-1].data["message_id"]]["content"] == run["output"]


def test_a_stream_that_was_lost_in_the_middle_is_made_whole(door: Door) -> None:
    """Redis is flushed while a run goes on: what is behind is told live, what was lost from the database."""
    run = door.enqueue("[steps=4] [pace=0.3] go", team="with-tool")
    wait_until(lambda: len(door.messages(run)) >= 4, description="four messages are written")
    door.redis.flushall()
    run = door.ended(run["id"])

    events = door.events(run["id"])

    assert "run.started" not in [event.type for event in events]
    assert "tool_call.completed" in [event.type for event in events]
    check_whole(door, run, events)
    check_resuming(door, run, events)


def test_a_reader_of_rows_is_told_the_rest_though_the_stream_came_late(door: Door) -> None:
    """Redis was away, so the database told; the reader leaves, and meanwhile the worker's line reaches the stream."""
    run = door.ended(door.enqueue("[steps=2] [words=5] go", team="with-tool")["id"])
    key = f"run:{run['id']}:events"
    line = door.redis.xrange(key)
    door.redis.delete(key)
    received = door.events(run["id"])
    for id, fields in line:
        door.redis.xadd(key, fields, id=id)
    door.redis.expire(key, 60)

    for n in range(1, len(received)):
        seen = received[:n] + door.events(run["id"], after=received[n - 1].id)

        assert seen[-1] == received[-1]
        assert [event.position for event in seen] == sorted({event.position for event in seen})
        contents = {e.data["message_id"]: e.data["content"] for e in seen if e.type == "message.completed"}
        assert contents == {e.data["message_id"]: e.data["content"] for e in received if e.type == "message.completed"}


@pytest.mark.parametrize("after", ["1-999999999999", "1-18446744073709551615", "0-18446744073709551615"])
def test_a_place_far_ahead_costs_nothing(door: Door, after: str) -> None:
    """Whoever claims to have been shown more than there is gets the end; the number is never counted up to."""
    run = door.ended(door.enqueue()["id"])

    assert door.events(run["id"], after=after)[-1].type == "run.completed"


def test_runs_go_on_after_a_flush(door: Door) -> None:
    """The broker's own keys are gone too: the next run is executed nevertheless."""
    door.redis.flushall()

    assert door.ended(door.enqueue()["id"])["status"] == "completed"


def test_a_run_that_is_cancelled_in_the_queue_ends_before_it_starts(door: Door) -> None:
    """Its watcher is shown that it was queued, and that it was cancelled."""
    head = door.enqueue("[delay=60] go")
    door.until(head["id"], "running")
    run = door.enqueue("never", session_id=head["session_id"])

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(door.events, run["id"])
        assert door.run(run["id"])["status"] == "queued"
        run = door.cancel(run["id"])
        events = watching.result(timeout=120)
    door.cancel(head["id"])

    assert [(event.id, event.type) for event in events] == [("0-1", "run.queued"), ("1-0", "run.cancelled")]
    assert events[-1].data == run


@pytest.mark.parametrize("text", ["line\u2028end\u2029", "next\x85line", "a\r\n\nb\x0b\x1c", "🦉 ünï"], ids=ascii)
def test_any_text_passes_a_stream(door: Door, text: str) -> None:
    """Also what some readers take for the end of a line."""
    run = door.enqueue(f"said {text}")

    with Client(door.system.url, door.system.key) as client:
        events = list(client.stream(run["id"]))

    assert next(event.data["content"] for event in events if event.type == "message.completed") == f"said {text}"
    assert events[-1].data["input"] == f"said {text}"
