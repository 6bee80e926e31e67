"""The experiments about summaries; see names_experiments.py."""

import json
import time
from typing import Any

from names_experiments import experiments
from probing import Product

SUMMARY_S = 0.3  # what the model for summaries takes


def _summarising(p: Product) -> Any:
    """Return a team whose every run makes a summary due: Agno knows no other."""
    due = {"due_messages": 1} if hasattr(p.SessionSummaryManager, "due_messages") else {}
    manager = p.SessionSummaryManager(model=p.OpenAIChat(id=f"m[delay={SUMMARY_S}]"), **due)
    return p.team(enable_session_summaries=True, session_summary_manager=manager)


@experiments("Team(enable_session_summaries=)")
def _summaries(p: Product) -> str:
    team = _summarising(p)
    took = []
    for _ in range(3):
        began = time.monotonic()
        team.run("Hello", session_id="s")
        took.append(time.monotonic() - began)
    return f"a run {'waits' if min(took) >= SUMMARY_S else 'does not wait'} for its summary"


@experiments("Team.get_session_summary()")
def _get_summary(p: Product) -> str:
    team = _summarising(p)
    team.run("Hello", session_id="s")
    before = team.get_session_summary("s")
    time.sleep(4 * SUMMARY_S)
    after = team.get_session_summary("s")
    return f"immediately after a run: {'present' if before else 'none'}; soon after: {'present' if after else 'none'}"


@experiments("Team(add_session_summary_to_context=)")
def _summary_in_context(p: Product) -> str:
    team = _summarising(p)
    team.run("I am Ada.", session_id="s")
    time.sleep(4 * SUMMARY_S)
    messages = json.loads(team.run("[echo]", session_id="s").content)["messages"]
    role = next((m["role"] for m in messages if "lines were read" in (m["content"] or "")), None)
    return f"by default sent, as role {role}" if role else "by default not sent"
