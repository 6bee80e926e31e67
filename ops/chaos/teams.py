"""The teams that workers serve under chaos. Importing it changes the worker: points, audit, a broken build.

CHAOS_BREAK names the broken build, CHAOS_SHIFT_S how many seconds this worker's clock is wrong.
"""

import json
import os
import time
from datetime import timedelta

from ops.chaos import audit, points
from ops.chaos.broken import BREAKS
from worker import Agent, OpenAIChat, RunContext, SessionSummaryManager, Team, clock, tool


def _note_effect(name: str, context: RunContext) -> None:
    """Write the effect of a call as one line, which no kill can cut."""
    effect = {"tool": name, "key": context.idempotency_key, "fence": points.of_thread.fence, "pid": os.getpid()}
    with (points.here / "effects.jsonl").open("a") as file:
        file.write(json.dumps(effect) + "\n")


@tool
def note(context: RunContext) -> str:
    """Note something; a repetition does no harm."""
    _note_effect("note", context)
    return "noted"


@tool(repeatable=False)
def charge(context: RunContext) -> str:
    """Charge a customer, which must not happen twice, and return a moment later."""
    _note_effect("charge", context)
    time.sleep(0.3)
    return "charged"


model = OpenAIChat(id="rules")
members = [Agent(id=name, model=model, role=f"does {name}", tools=[note, charge]) for name in ("a", "b")]
plain = Team(id="plain", model=model, add_history_to_context=True, num_history_runs=2)
tools = Team(id="tools", model=model, tools=[note, charge])
leads = Team(id="leads", model=model, members=members)
condensed = Team(
    id="condensed",
    model=model,
    session_summary_manager=SessionSummaryManager(model=OpenAIChat(id="rules[delay=0.2]"), due_messages=4),
    enable_session_summaries=True,
)

if "CHAOS_BREAK" in os.environ:
    BREAKS[os.environ["CHAOS_BREAK"]][0]()
audit.install()
points.install()
if "CHAOS_SHIFT_S" in os.environ:
    _now, _shift = clock.now, timedelta(seconds=float(os.environ["CHAOS_SHIFT_S"]))
    clock.now = lambda: _now() + _shift
