"""The session's state and its order under real concurrency: parallel tools, members, threads, processes."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from worker import Agent, Calls, RunContext, ScriptedModel, Team, tool
from worker.db import Db
from worker.domain import ChatRequest
from worker.store.tables import runs

TOOLS, OTHERS = 8, 20
together = threading.Barrier(TOOLS, timeout=120)


@tool
def put(key: str, context: RunContext) -> str:
    """Put a key into the state."""
    context.session_state[key] = key
    return "put"


@tool
def put_together(key: str, context: RunContext) -> str:
    """Put a key at the same moment as the others."""
    together.wait()
    context.session_state[key] = key
    return "put"


def put_from_outside(url: str) -> None:
    """What another process does meanwhile."""
    team = Team(id="t", db=Db(url))
    for n in range(OTHERS):
        team.update_session_state("s", {f"other{n}": n})


def answer_three(url: str, name: str) -> None:
    """What each of several processes does: five runs of one session."""
    team = Team(id="t", model=ScriptedModel(["ok"] * 5), db=Db(url))
    for n in range(5):
        team.run(f"{name}-{n}", session_id="s")


def test_no_key_of_the_state_is_lost(database_url: str) -> None:
    """Eight tools of one reply, three members and another process set keys at the same time: all are there."""
    members = [
        Agent(id=f"m{n}", model=ScriptedModel([Calls(("put", {"key": f"m{n}"})), "done"]), tools=[put]) for n in "abc"
    ]
    delegations = [("delegate_task_to_member", {"member_id": m.id, "task": "put"}) for m in members]
    tools: list[tuple[str, dict[str, Any] | str]] = [("put_together", {"key": f"t{n}"}) for n in range(TOOLS)]
    model = ScriptedModel(["hello", Calls(*tools, *delegations), "done"])
    team = Team(
        id="t", model=model, members=members, tools=[put_together], session_state={"began": True}, db=Db(database_url)
    )
    team.run("hello", session_id="s")
    other = multiprocessing.get_context("spawn").Process(target=put_from_outside, args=(database_url,))

    other.start()
    team.run("set them", session_id="s")
    other.join(60)

    assert other.exitcode == 0
    wanted = {f"t{n}" for n in range(TOOLS)} | {"ma", "mb", "mc"} | {f"other{n}" for n in range(OTHERS)} | {"began"}
    assert set(team.get_session_state("s")) == wanted


def test_eight_threads_on_one_session_keep_its_order(database_url: str) -> None:
    """Forty runs by eight threads: no gap in the positions, every call counted, each input in its place."""
    model = ScriptedModel([lambda request: request.messages[-1].content] * 40)
    team = Team(id="t", model=model, db=Db(database_url))

    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda n: team.run(f"input {n}", session_id="s"), range(40)))

    check_order(team, 40)
    assert sum(o.usage.model_calls for o in outputs) == 40
    assert all(o.content == o.messages[0].content for o in outputs)


@pytest.mark.default_on("postgres")
def test_four_processes_on_one_session_keep_its_order(database_url: str) -> None:
    """Four processes with five runs each, each executing its own."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=answer_three, args=(database_url, f"p{n}")) for n in range(4)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(120)

    assert [process.exitcode for process in processes] == [0] * 4
    check_order(Team(id="t", db=Db(database_url)), 20)


def check_order(team: Team, count: int) -> None:
    """Assert that so many runs completed in the order of their positions, one at a time."""
    with team.db.runtime.db.read() as tx:
        rows = tx.execute(select(runs).order_by(runs.c.position)).all()
    log = team.get_messages_for_session("s")
    assert [r.position for r in rows] == list(range(1, count + 1))
    assert {r.status for r in rows} == {"completed"}
    assert sum(r.model_calls for r in rows) == count
    assert [m.seq for m in log] == list(range(1, 2 * count + 1))
    assert [m.run_id for m in log[::2]] == [r.id for r in rows]
    assert [m.content for m in log[::2]] == [r.input for r in rows]


def test_the_past_can_be_read_by_the_model() -> None:
    """Both history tools, newest first, over the whole session."""
    seen: list[str] = []

    def look(request: ChatRequest) -> str:
        seen.extend(m.content for m in request.messages if m.role == "tool")
        return "seen"

    script = [
        "one",
        Calls(("put", {"key": "k"})),
        "two",
        Calls(("get_chat_history", {}), ("get_tool_call_history", {"num_calls": 1})),
        look,
    ]
    team = Team(
        id="past", model=ScriptedModel(script), tools=[put], read_chat_history=True, read_tool_call_history=True
    )
    for text in ("first", "second", "third"):
        team.run(text, session_id="s")

    chat, calls = sorted(seen, key=lambda text: "put(" in text)
    assert [line.split(": ", 1)[1] for line in chat.splitlines()] == ["two", "second", "one", "first"]
    assert calls == '[5] put({"key": "k"}) returned: put'
