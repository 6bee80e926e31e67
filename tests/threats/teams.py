"""Teams whose models and tools say marks of their own: `marks.derived` tells which."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.teams import leads, plain
from tests.threats.marks import MARK, derived
from worker import Agent, OpenAIChat, RunContext, SessionSummaryManager, Team, tool
from worker.domain import ChatRequest, Reply, ToolCall, Usage


@tool
def note(text: str, context: RunContext) -> str:
    """Note something down."""
    context.session_state[context.idempotency_key] = derived(text, "state")
    return f"noted {derived(text, 'result')}"


@tool
def stumble(text: str) -> str:
    """Fail with words."""
    raise ValueError(f"stumbled over {derived(text, 'exception')}")


@tool
def keep(text: str) -> str:
    """Keep a text as it came."""
    with (Path(os.environ["TEAM_SESSIONS_DATA_DIR"]) / "kept.jsonl").open("a") as file:
        file.write(json.dumps(text) + "\n")
    return text


@dataclass(frozen=True)
class Derives:
    """Calls its tools with marks derived from the last user message, then answers with one; a leader delegates too."""

    id: str = "derives"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        place = max(n for n, message in enumerate(request.messages) if message.role == "user")
        found = MARK.search(request.messages[place].content)
        mark = found[0] if found else ""
        if place == len(request.messages) - 1:
            arguments = {tool.name: {"text": derived(mark, f"argument of {tool.name}")} for tool in request.tools}
            if "delegate_task_to_member" in arguments:
                arguments["delegate_task_to_member"] = {"member_id": "helper", "task": derived(mark, "task")}
            calls = [ToolCall(f"call_{name}", name, json.dumps(fields)) for name, fields in arguments.items()]
            return Reply("", tuple(calls), Usage(1, 1, 0, 1))
        on_delta("It is ")
        on_delta(derived(mark, "reply"))
        return Reply(f"It is {derived(mark, 'reply')}", (), Usage(1, 1, 0, 1))


@dataclass(frozen=True)
class Broken:
    """Raises what no model should, with words in it."""

    id: str = "broken"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        raise RuntimeError(f"it could not read: {request.messages[-1].content}")


rules = OpenAIChat(id="rules")
helper = Agent(id="helper", model=Derives(), role="helps", tools=[note])
derives = Team(id="derives", model=Derives(), tools=[note, stumble], members=[helper])
broken = Team(id="broken", model=Broken())
keeps = Team(id="keeps", model=rules, tools=[keep])
sums_up = Team(
    id="sums-up",
    model=rules,
    session_summary_manager=SessionSummaryManager(model=rules, due_messages=2),
    enable_session_summaries=True,
)
sums_up_in_vain = Team(
    id="sums-up-in-vain",
    model=rules,
    session_summary_manager=SessionSummaryManager(model=Broken(), due_messages=2),
    enable_session_summaries=True,
)

__all__ = ["broken", "derives", "keeps", "leads", "plain", "sums_up", "sums_up_in_vain"]
