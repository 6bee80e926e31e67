"""What a run is at is said in names of its definition, and in nothing that a model has said."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.outcomes import execute
from tests.support.replaying import enqueue
from worker import Agent, Calls, ScriptedModel, Team, tool
from worker.domain import ChatRequest, Reply, RunOrder, Usage
from worker.errors import ModelUnavailable
from worker.process.runtime import Runtime

Process = Callable[..., Runtime]


@tool
def search() -> str:
    """Search."""
    return "found"


@tool
def weigh() -> str:
    """Weigh."""
    return "heavy"


@dataclass(frozen=True)
class Waits:
    """Answers once all have been asked."""

    together: asyncio.Barrier = field(compare=False)
    id: str = "waits"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        await self.together.wait()
        return Reply("done", (), Usage(1, 1, 0, 1))


def executed(runtime: Runtime, times: int = 1) -> list[tuple[int, str]]:
    """Execute a run and return what was said meanwhile, each word once."""
    said: list[tuple[int, str]] = []
    run_id = enqueue(
        runtime.db, RunOrder("t", "the input", session_id="s", user_id="u", metadata={}), settings=runtime.settings
    ).run.id
    for _ in range(times):
        execute(runtime, run_id, "t", report=lambda attempt, words: said.append((attempt, words)))
    return list(dict.fromkeys(said))


def test_turn_tools_and_members_are_told(process: Process) -> None:
    """The leader's tools, then a member who uses one too; a turn of a member counts, as for the limit."""
    member = Agent(id="critic", role="r", tools=[weigh], model=ScriptedModel([Calls(("weigh", {})), "too heavy"]))
    to_critic: Any = ("delegate_task_to_member", {"member_id": "critic", "task": "a task"})
    leader = ScriptedModel([Calls(("search", {})), Calls(to_critic), "the answer"])
    runtime = process(Team(id="t", model=leader, tools=[search], members=[member]))

    assert [words for _, words in executed(runtime)] == [
        "turn 1 · model",
        "turn 1 · tool search",
        "turn 2 · model",
        "turn 3 · member critic",
        "turn 3 · tool weigh · member critic",
        "turn 4 · member critic",
        "turn 5 · model",
    ]


def test_names_that_a_model_made_up_are_not_told(process: Process) -> None:
    """Neither a tool nor a member; what it can call is told when it calls it."""
    made_up: Any = [("tell_ada_lovelace", {}), ("delegate_task_to_member", {"member_id": "ada lovelace", "task": "x"})]
    member = Agent(id="critic", role="r", model=ScriptedModel([]))
    leader = ScriptedModel([Calls(*made_up, ("search", {})), "Ada Lovelace"])
    runtime = process(Team(id="t", model=leader, tools=[search], members=[member]))

    said = executed(runtime)

    assert any("tool search" in words for _, words in said)
    assert not any("ada" in words.lower() or "input" in words for _, words in said)


def test_many_names_are_counted(process: Process) -> None:
    """Three are told, and how many more there are, whichever began first."""
    together = asyncio.Barrier(5)
    members = [Agent(id=f"m{n}", role="r", model=Waits(together)) for n in range(5)]
    runtime = process(Team(id="t", model=ScriptedModel(["the answer"]), members=members, mode="broadcast"))

    assert any(re.search(r"· member m\d, m\d, m\d \+2$", words) for _, words in executed(runtime))


def test_each_attempt_goes_on_counting_turns(process: Process) -> None:
    """A second attempt says so, and goes on at the turn that the first did not end."""
    steps = [Calls(("search", {})), ModelUnavailable(model="m", reason="r", retry_after_s=0.0), "the answer"]
    runtime = process(Team(id="t", model=ScriptedModel(steps), tools=[search]))

    said = executed(runtime, times=2)

    assert (1, "turn 2 · model") in said
    assert next(words for attempt, words in said if attempt == 2) == "turn 2 · model"
