"""The names that we share with Agno, from whichever of the two this environment has: the same lines run with either."""

import os
from importlib.util import find_spec
from typing import Any

if find_spec("agno"):
    from agno.db.postgres import PostgresDb
    from agno.db.sqlite import SqliteDb
    from agno.models.openai import OpenAIChat
    from agno.session import SessionSummaryManager
    from agno.team import Team
else:
    from worker import OpenAIChat, PostgresDb, SessionSummaryManager, SqliteDb, Team


def look_up() -> str:
    """Look something up."""
    return "found"


def team(*, summary_model: str | None = None, **options: Any) -> Any:
    """Return a team on the database that DATABASE names; with a *summary_model* its sessions are summarised.

    With TOOLS in the environment it has a tool.
    """
    url = os.environ["DATABASE"]
    db = SqliteDb(db_file=url) if "://" not in url else PostgresDb(db_url=url)
    if summary_model is not None:
        manager = SessionSummaryManager(model=OpenAIChat(id=summary_model))
        options |= {"enable_session_summaries": True, "session_summary_manager": manager}
    if os.environ.get("TOOLS"):
        options["tools"] = [look_up]
    common = {"add_history_to_context": True, "num_history_runs": 3, "members": []}
    return Team(id="t", model=OpenAIChat(id="rules"), db=db, **{**common, **options})
