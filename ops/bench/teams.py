"""The teams that workers serve for the benches of summaries. They differ in their summaries and their history only.

The run's model answers at once; marks in a summary model's name say what it does (ops/stub_model.py).
"""

from worker import OpenAIChat, SessionSummaryManager, Team


def _team(id: str, *, summary_model: str | None = None, num_history_runs: int | None = None) -> Team:
    return Team(
        id=id,
        model=OpenAIChat(id="rules"),
        add_history_to_context=True,
        num_history_runs=num_history_runs,
        enable_session_summaries=summary_model is not None,
        session_summary_manager=SessionSummaryManager(model=OpenAIChat(id=summary_model or "rules")),
    )


same = _team("same")
as_long = _team("as-long", num_history_runs=7)
on = _team("on", summary_model="rules[delay=0.5]")
slow = _team("slow", summary_model="rules[delay=2]")
long = _team("long", summary_model="rules[words=400][delay=0.02]")
