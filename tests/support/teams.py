"""The teams that test workers serve."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker import Agent, Limits, OpenAIChat, RunContext, SessionSummaryManager, Team, tool
from worker.domain import ChatRequest, Reply


@tool
def look_up(context: RunContext) -> str:
    """Look something up."""
    return f"found {context.idempotency_key}"


@tool(repeatable=False)
def note(context: RunContext) -> str:
    """Note something down."""
    effects = Path(os.environ["TEAM_SESSIONS_DATA_DIR"]) / "effects"
    with effects.open("a") as file:
        file.write(f"{context.idempotency_key}\n")
    return f"noted as {context.idempotency_key}"


@tool(repeatable=False)
def charge(context: RunContext) -> str:
    """Charge a customer, and return after a long time."""
    effects = Path(os.environ["TEAM_SESSIONS_DATA_DIR"]) / "effects"
    with effects.open("a") as file:
        file.write(f"{context.idempotency_key}\n")
    time.sleep(8)
    return "charged"


@tool
def block(seconds: int, context: RunContext) -> str:
    """Let no other Python code run in this process: PyDLL keeps the interpreter's lock."""
    effects = Path(os.environ["TEAM_SESSIONS_DATA_DIR"]) / "effects"
    with effects.open("a") as file:
        file.write(f"{context.idempotency_key}\n")
    ctypes.PyDLL(None).sleep(seconds)
    return "done"


def _effect(line: str) -> None:
    with (Path(os.environ["TEAM_SESSIONS_DATA_DIR"]) / "effects").open("a") as file:
        file.write(f"{line}\n")


@tool(requires_confirmation=True, repeatable=False)
def pay(eur: int, context: RunContext) -> str:
    """Pay, once it is approved."""
    _effect(f"pay {eur} {context.idempotency_key}")
    return f"paid {eur}"


@tool(requires_confirmation=True, decided_by="operator")
def refund(eur: int, context: RunContext) -> str:
    """Refund, once an operator has approved it."""
    _effect(f"refund {eur} {context.idempotency_key}")
    return f"refunded {eur}"


@tool(requires_user_input=True, user_input_fields=["address"])
def ship(order: str, address: str, context: RunContext) -> str:
    """Ship an order to an address that the user gives."""
    _effect(f"ship {order} {address} {context.idempotency_key}")
    return f"shipped {order} to {address}"


@tool(external_execution=True)
def measure(what: str) -> str:
    """Measure something, elsewhere."""
    raise AssertionError(what)


model = OpenAIChat(id="rules")
plain = Team(id="plain", model=model)
remembers = Team(id="remembers", model=model, add_history_to_context=True, num_history_runs=3)
with_tool = Team(id="with-tool", model=model, tools=[look_up], limits=Limits(turns=12))
members = [Agent(id=name, model=model, role=f"does {name}", tools=[look_up]) for name in ("a", "b", "c")]
asking = [pay, refund, ship, measure]
waits = Team(
    id="waits",
    model=model,
    tools=[*asking, look_up],
    members=[Agent(id=name, model=model, role=f"does {name}", tools=asking) for name in ("a", "b")],
)
leads = Team(id="leads", model=model, members=members)
condensed = Team(
    id="condensed",
    model=model,
    session_summary_manager=SessionSummaryManager(model=model, session_summary_prompt="Be succinct."),
    enable_session_summaries=True,
)
condensed_slowly = Team(
    id="condensed-slowly",
    model=model,
    session_summary_manager=SessionSummaryManager(model=OpenAIChat(id="rules[delay=0.4]")),
    enable_session_summaries=True,
)
condensed_soon = Team(
    id="condensed-soon",
    model=model,
    session_summary_manager=SessionSummaryManager(model=OpenAIChat(id="rules[delay=0.4]"), due_messages=2),
    enable_session_summaries=True,
)
condensed_never = Team(
    id="condensed-never",
    model=model,
    session_summary_manager=SessionSummaryManager(model=OpenAIChat(id="rules[delay=600]"), due_messages=2),
    enable_session_summaries=True,
)
notes = Team(id="notes", model=model, tools=[note], add_history_to_context=True)
blocks = Team(id="blocks", model=model, tools=[block])
charges = Team(id="charges", model=model, tools=[charge])


@dataclass(frozen=True)
class Deadly:
    """The rules' model, unless the input says "die": then it kills the calling process."""

    id: str = "rules"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Answer, or end the process."""
        if "die" in request.messages[-1].content:
            os.kill(os.getpid(), signal.SIGKILL)
        return await model.reply(request, on_delta)


deadly = Team(id="deadly", model=Deadly())
