"""The teams of the demo: one that is sent its history, one that is sent a summary of it.

TEAM_SESSIONS_TEAMS=ops.examples.demo_teams team-sessions up
"""

from team_sessions import SessionSummaryManager, Team

team = Team(id="team", add_history_to_context=True)

# A summary is due at 40 messages, unless a team says otherwise; here one can be watched.
condensed = Team(
    id="condensed",
    enable_session_summaries=True,
    session_summary_manager=SessionSummaryManager(due_messages=6),
)
