"""Cancel: at once, whatever the run is doing; its text is kept, and its session goes on."""

from tests.api.door import Door
from tests.support.system import wait_until


def contents(door: Door, run: dict[str, object]) -> list[str]:
    return [message["content"] for message in door.messages(run)]


def test_a_model_call_that_has_sent_nothing_is_ended(door: Door) -> None:
    """At once, not after the ten minutes that the model would take; the next run of the session is executed."""
    asked = "[delay=600] first"
    run = door.enqueue(asked)
    following = door.enqueue("second", session_id=run["session_id"])
    wait_until(lambda: any(line["user"] == asked for line in door.system.journal()), description="the model is asked")

    assert door.cancel(run["id"])["status"] in ("running", "cancelled")
    ended = door.ended(run["id"])
    following = door.ended(following["id"])

    assert (ended["status"], ended["output"], ended["error"]) == ("cancelled", None, None)
    assert following["status"] == "completed"
    assert contents(door, run) == [asked, "second", following["output"]]
    assert [event.type for event in door.events(run["id"])] == [
        *("run.queued", "run.started", "message.completed", "run.cancelled")
    ]


def test_an_ended_run_stays_as_it_is(door: Door) -> None:
    """Cancelled or completed: 202 and the same run, as often as one asks."""
    completed = door.ended(door.enqueue()["id"])
    slow = door.enqueue("[delay=60] go")
    door.cancel(slow["id"])
    cancelled = door.ended(slow["id"])

    assert [door.cancel(completed["id"]) for _ in range(2)] == [completed, completed]
    assert [door.cancel(cancelled["id"]) for _ in range(2)] == [cancelled, cancelled]
    assert door.run(completed["id"]) == completed


def test_queued_runs_are_cancelled_at_once_and_keep_their_place(door: Door) -> None:
    """Behind the head nothing is waited for; their inputs enter the history when the head has passed them."""
    head = door.enqueue("[delay=3] one")
    session = head["session_id"]
    runs = [door.enqueue(text, session_id=session) for text in ("two", "three", "four", "five")]

    cancelled = [door.cancel(runs[n]["id"]) for n in (0, 1, 3)]
    unfinished = door.run(head["id"])
    history_then = contents(door, head)
    outputs = [door.ended(run["id"])["output"] for run in (head, runs[2])]

    assert [run["status"] for run in cancelled] == ["cancelled"] * 3
    assert all(run["finished_at"] and run["started_at"] is None and run["attempt"] == 0 for run in cancelled)
    assert not unfinished["finished_at"]
    assert "two" not in history_then
    assert [run["position"] for run in [head, *runs]] == [1, 2, 3, 4, 5]
    assert contents(door, head) == ["[delay=3] one", outputs[0], "two", "three", "four", outputs[1], "five"]
    assert [message["seq"] for message in door.messages(head)] == list(range(1, 8))
    assert [door.run(run["id"]) for run in cancelled] == cancelled
    shown = [(event.type, event.data.get("content")) for event in door.events(runs[0]["id"])]
    assert shown == [("run.queued", None), ("message.completed", "two"), ("run.cancelled", None)]


def test_no_tool_call_is_left_without_a_result(door: Door) -> None:
    """Three tools are at work when the run is cancelled: each call gets a result that says so."""
    run = door.enqueue("[steps=1] [calls=3] go", team="slow-tool")
    wait_until(lambda: len(door.messages(run)) == 2, description="the tools are called")

    door.cancel(run["id"])
    ended = door.ended(run["id"])

    assert ended["status"] == "cancelled"
    _, reply, *results = door.messages(run)
    assert [m["tool_call_id"] for m in results] == [call["id"] for call in reply["tool_calls"]]
    text = "No result: the run was cancelled. Whether it took effect is not known."
    assert [(m["role"], m["content"]) for m in results] == [("tool", text)] * 3
    assert ended["usage"]["model_calls"] == 1


def test_a_run_between_many_tool_calls_ends_in_order(door: Door) -> None:
    """Cancelled somewhere among its turns: what is written is kept, and every call has its result."""
    run = door.enqueue("[steps=10] [calls=2] [pace=0.2] go", team="with-tool")
    wait_until(lambda: len(door.messages(run)) > 5, description="some turns are written")

    door.cancel(run["id"])

    assert door.ended(run["id"])["status"] == "cancelled"
    history = door.messages(run)
    asked = [call["id"] for message in history for call in message["tool_calls"]]
    assert asked
    assert sorted(asked) == sorted(m["tool_call_id"] for m in history if m["role"] == "tool")
