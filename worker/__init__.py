"""Team Sessions: durable, queue-backed sessions with teams of LLM agents.

`from worker import Team, OpenAIChat, tool` is for those who define teams; `from api_stub.client import Client` for
those who only enqueue runs.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.agent import Agent
    from worker.db import PostgresDb, SqliteDb
    from worker.domain.chat import ChatModel
    from worker.domain.retention import Retention
    from worker.domain.summary import SessionSummaryManager
    from worker.loop.definition import Limits
    from worker.loop.tools import RunContext, Tool, tool
    from worker.models.openai_chat import OpenAIChat
    from worker.models.scripted import Calls, ScriptedModel
    from worker.team import Team

__all__ = [
    "Agent",
    "Calls",
    "ChatModel",
    "Limits",
    "OpenAIChat",
    "PostgresDb",
    "Retention",
    "RunContext",
    "ScriptedModel",
    "SessionSummaryManager",
    "SqliteDb",
    "Team",
    "Tool",
    "tool",
]

# Where each name stands. It is imported when it is asked for: the command line needs few of them, and openai is slow.
_HOMES = {
    "PostgresDb": "worker.db",
    "SqliteDb": "worker.db",
    "Agent": "worker.agent",
    "Calls": "worker.models.scripted",
    "ChatModel": "worker.domain.chat",
    "Limits": "worker.loop.definition",
    "OpenAIChat": "worker.models.openai_chat",
    "Retention": "worker.domain.retention",
    "RunContext": "worker.loop.tools",
    "ScriptedModel": "worker.models.scripted",
    "SessionSummaryManager": "worker.domain.summary",
    "Team": "worker.team",
    "Tool": "worker.loop.tools",
    "tool": "worker.loop.tools",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'worker' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
