"""Each line that is logged while a run is executed says which run it is about, whoever logs it, on any thread."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.outcomes import execute
from worker import Agent, Calls, ScriptedModel, Team, tool
from worker.domain import ChatRequest, Reply, RunOrder, Usage
from worker.observe import logs
from worker.process.runtime import Runtime
from worker.runs import enqueue

Process = Callable[..., Runtime]
theirs = logging.getLogger("their.library")
RUNS = 8


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Read the JSON lines that were logged; afterwards the root logger is as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, threading.excepthook)
    yield lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    threading.excepthook = before[2]


@tool
def grumble() -> str:
    """Log something."""
    theirs.warning("in a tool")
    return "done"


@tool
async def grumble_later() -> str:
    """Log something on an event loop."""
    theirs.warning("in an async tool")
    return "done"


def log_and_fail(_request: ChatRequest) -> str:
    """Log something in a model, and fail as no model should."""
    theirs.warning("in the model")
    raise RuntimeError("its words")


def accepted(runtime: Runtime, session_id: str, input: str = "hello") -> str:
    """Have a run accepted and return its id."""
    return enqueue.enqueue(runtime.db, RunOrder("t", input, session_id=session_id), settings=runtime.settings).run.id


def test_every_line_of_a_run_says_its_run_session_and_attempt(
    process: Process, said: Callable[[], list[dict[str, Any]]]
) -> None:
    """Of a tool, of an async one, of a member's, of the model on its event loop, and of the error that ends the run."""
    calls = Calls(("grumble", {}), ("grumble_later", {}), ("delegate_task_to_member", {"member_id": "m", "task": "x"}))
    member = Agent(id="m", model=ScriptedModel([Calls(("grumble", {})), "done"]), tools=[grumble])
    model = ScriptedModel([calls, log_and_fail])
    runtime = process(Team(id="t", model=model, members=[member], tools=[grumble, grumble_later]))
    run_id = accepted(runtime, "s")
    logs.configure("INFO", style="json")

    assert execute(runtime, run_id, "t") == "failed: internal"
    theirs.warning("behind it")

    *during, behind = said()
    texts = sorted(line["text"] for line in during)
    assert texts[:4] == ["in a tool", "in a tool", "in an async tool", "in the model"]
    assert texts[4:] == ["run failed on an unexpected error"]
    about = {(line.get("run_id"), line.get("session_id"), line.get("attempt")) for line in during}
    assert about == {(run_id, "s", 1)}
    assert not {"run_id", "session_id", "attempt"} & set(behind)


@dataclass(frozen=True)
class Says:
    """A model that logs the input that it was asked with: here it is the id of the session."""

    id: str = "says"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        theirs.warning(request.messages[-1].content)
        return Reply("done", (), Usage(1))


def test_runs_that_are_executed_at_the_same_time_do_not_mix(
    process: Process, said: Callable[[], list[dict[str, Any]]]
) -> None:
    """Their models run on one event loop, their attempts on threads that were used before."""
    runtime = process(Team(id="t", model=Says()))
    runs = {f"s-{n}": accepted(runtime, f"s-{n}", input=f"s-{n}") for n in range(RUNS)}
    logs.configure("INFO", style="json")

    with ThreadPoolExecutor(RUNS // 2) as threads:
        outcomes = list(threads.map(lambda run_id: execute(runtime, run_id, "t"), runs.values()))

    assert set(outcomes) == {"completed"}
    about = {line["text"]: (line["session_id"], line["run_id"]) for line in said()}
    assert about == {session_id: (session_id, run_id) for session_id, run_id in runs.items()}
