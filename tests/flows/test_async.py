"""Async tools, and teams that are awaited: one event loop for what a module keeps, and none that stands still."""

import asyncio
import contextvars
import re
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from tests.support.system import wait_until
from worker import Calls, InMemoryDb, RunContext, ScriptedModel, Team
from worker.db import Db
from worker.domain import ChatRequest, Status, Stop
from worker.errors import ModelRefused, RunFailed, SessionOfThisRun
from worker.loop import user_loop
from worker.loop.user_loop import UserLoop
from worker.observe import metrics
from worker.runs.cancel import cancel


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def web() -> Iterator[str]:
    """The address of an HTTP server that answers with the path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def calling(times: int) -> Any:
    """Return a step that calls the tool `fetch` in that many replies of a run, then answers."""

    def step(request: ChatRequest) -> str | Calls:
        done = sum(message.role == "tool" for message in request.messages)
        return "done" if done >= times else Calls(("fetch", {"n": done}))

    return step


def test_a_client_that_a_module_keeps_works_in_every_call(database_url: str, web: str) -> None:
    """Fifty runs, ten at a time, of four calls each: one client and one lock for all of them."""
    client, lock, loops = httpx2.AsyncClient(), asyncio.Lock(), set()

    async def fetch(n: int) -> str:
        async with lock:
            loops.add(asyncio.get_running_loop())
        return (await client.get(f"{web}/{n}")).text

    team = Team(id="t", model=ScriptedModel([calling(4)] * 250), tools=[fetch], db=Db(database_url))

    with ThreadPoolExecutor(10) as pool:
        outputs = list(pool.map(lambda n: team.run("go", session_id=f"s{n}"), range(50)))

    for output in outputs:
        assert [m.content for m in output.messages if m.role == "tool"] == ["/0", "/1", "/2", "/3"]
    assert len(loops) == 1
    team.db.runtime.user_loop.run(client.aclose(), name="close", stop=Stop())
    team.db.close()


def test_context_variables_travel_into_a_coroutine(database_url: str) -> None:
    """It sees what its caller has set."""
    tenant = contextvars.ContextVar("tenant", default="none")

    async def fetch(n: int) -> str:
        return f"{tenant.get()} {n}"

    team = Team(id="t", model=ScriptedModel([calling(1)] * 2), tools=[fetch], db=Db(database_url))
    tenant.set("acme")

    output = team.run("go")

    assert [m.content for m in output.messages if m.role == "tool"] == ["acme 0"]
    team.db.close()


def test_a_cancel_ends_a_coroutine(database_url: str) -> None:
    """It is cancelled where it waits, and can clean up; the run is cancelled, not failed."""
    begun, ended = threading.Event(), threading.Event()

    async def fetch(n: int) -> str:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()
        return "never"

    team = Team(id="t", model=ScriptedModel([calling(1)]), tools=[fetch], db=Db(database_url))
    failed: list[RunFailed] = []

    def run() -> None:
        try:
            team.run("go", session_id="s")
        except RunFailed as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    session = team.get_session("s")
    assert session is not None
    cancel(team.db.runtime.db, session.runs[0].id)

    assert ended.wait(60)
    thread.join(60)
    assert session.runs[0].status is Status.CANCELLED
    assert "cancelled" in str(failed[0])
    team.db.close()


def test_a_tool_that_blocks_the_loop_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a warning, and by the metric while it blocks; later coroutines get loops of their own."""
    for name, seconds in (("BEAT_S", 0.01), ("LATE_S", 0.05), ("BLOCKED_S", 0.5)):
        monkeypatch.setattr(user_loop, name, seconds)
    loop, free = UserLoop(), threading.Event()

    async def block() -> None:
        free.wait(60)

    async def where() -> int:
        return threading.get_ident()

    def lag() -> float:
        (line,) = re.findall(rb"^team_sessions_tools_loop_lag_seconds (.+)$", metrics.text(metrics.PROCESS), re.M)
        return float(line)

    blocking = threading.Thread(target=lambda: loop.run(block(), name="slow_tool", stop=Stop()))
    blocking.start()
    wait_until(lambda: lag() > 0.5, description="the metric shows it")
    assert loop.run(where(), name="quick_tool", stop=Stop()) == threading.get_ident()
    free.set()
    blocking.join(60)
    warnings = wait_until(
        lambda: [vars(record) for record in caplog.records if hasattr(record, "tools")], description="it is named"
    )

    assert warnings[0]["tools"] == "slow_tool"
    assert [vars(record)["tool"] for record in caplog.records if hasattr(record, "tool")] == ["quick_tool"]
    assert lag() == 0
    loop.close()


def test_an_awaited_run_holds_up_no_event_loop(database_url: str) -> None:
    """Twenty at once; its async tools run on the loop of the caller."""
    loops = []

    async def fetch(n: int) -> str:
        loops.append(asyncio.get_running_loop())
        return str(n)

    model = ScriptedModel([calling(1)] * 40, delay_s=0.05)
    team = Team(id="t", model=model, tools=[fetch], db=Db(database_url))

    async def main() -> tuple[list[str], int]:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        outputs = await asyncio.gather(*(team.arun("go", session_id=f"s{n}") for n in range(20)))
        beating.cancel()
        assert set(loops) == {asyncio.get_running_loop()}
        messages = await team.aget_messages_for_session("s3")
        assert [m.content for m in messages][-1] == "done"
        return [output.content for output in outputs], beats

    contents, beats = asyncio.run(main())

    assert contents == ["done"] * 20
    assert len(loops) == 20
    assert beats >= 3
    team.db.close()


def test_the_events_of_a_run_are_iterated(database_url: str) -> None:
    """The same as without `async`, and the last one is terminal."""
    team = Team(id="t", model=ScriptedModel(["one two", "one two"]), db=Db(database_url))

    async def types() -> list[str]:
        return [event.type async for event in team.arun("go", stream=True)]

    assert asyncio.run(types()) == [event.type for event in team.run("go", stream=True)]
    team.db.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_task_that_is_cancelled_cancels_its_run(database_url: str, stream: bool) -> None:
    """The run has ended when the task has, and its session goes on."""
    begun = threading.Event()

    async def fetch(n: int) -> str:
        begun.set()
        await asyncio.sleep(600)
        return "never"

    team = Team(id="t", model=ScriptedModel([calling(1), "next"]), tools=[fetch], db=Db(database_url))

    async def read() -> None:
        if stream:
            async for _event in team.arun("go", session_id="s", stream=True):
                pass
        else:
            await team.arun("go", session_id="s")

    async def main() -> None:
        task = asyncio.create_task(read())
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    session = team.get_session("s")
    assert session is not None
    assert [run.status for run in session.runs] == [Status.CANCELLED]
    assert team.run("again", session_id="s").content == "next"
    team.db.close()


def test_a_run_that_fails_raises_where_it_is_awaited(database_url: str) -> None:
    """As `run` raises it."""
    team = Team(id="t", model=ScriptedModel([ModelRefused(model="m", reason="no")] * 2), db=Db(database_url))

    async def main() -> list[str]:
        with pytest.raises(RunFailed, match="refused the request"):
            await team.arun("go")
        return [event.type async for event in team.arun("go", stream=True)]

    assert asyncio.run(main())[-1] == "run.failed"
    team.db.close()


def test_a_tool_cannot_wait_for_a_run_of_its_own_session(database_url: str) -> None:
    """It would wait for itself. In another session it can."""
    team: Team

    def ask_again(session: str, context: RunContext) -> str:
        """Ask the team."""
        return team.run("inner", session_id=session, user_id=context.user_id).content

    steps = [Calls(("ask_again", {"session": "s"}), ("ask_again", {"session": "other"})), "inner answer", "done"]
    team = Team(id="t", model=ScriptedModel(steps), tools=[ask_again], db=Db(database_url))

    output = team.run("outer", session_id="s", user_id="u")

    results = {m.content for m in output.messages if m.role == "tool"}
    assert "inner answer" in results
    assert any(text.startswith(f"Error: {SessionOfThisRun.__name__}") for text in results)
    assert output.content == "done"
    team.db.close()


def test_memories_of_two_objects_are_two_databases() -> None:
    """A session of one is not the other's of the same name."""

    def ask_other() -> str:
        """Ask another team."""
        return Team(model=ScriptedModel(["inner answer"]), db=InMemoryDb()).run("inner", session_id="s").content

    team = Team(model=ScriptedModel([Calls(("ask_other", {})), "done"]), tools=[ask_other], db=InMemoryDb())

    assert "inner answer" in {message.content for message in team.run("outer", session_id="s").messages}


def test_a_lifespan_is_entered_and_left_in_one_task() -> None:
    """On the loop of the tools; what it raises at its start is raised."""
    tasks: list[Any] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        tasks.append(asyncio.current_task())
        yield
        tasks.append(asyncio.current_task())

    @asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        raise LookupError("no pool")
        yield

    async def where() -> Any:
        return asyncio.get_running_loop()

    loop = UserLoop()
    loop.enter(lifespan)
    assert tasks[0].get_loop() is loop.run(where(), name="t", stop=Stop())
    with pytest.raises(LookupError, match="no pool"):
        loop.enter(failing)
    loop.close()

    assert len(tasks) == 2
    assert tasks[0] is tasks[1]
