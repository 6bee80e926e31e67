"""Team Sessions: durable, queue-backed sessions with teams of LLM agents.

To define teams: `from worker import Team, OpenAIChat, tool`. Programs that only enqueue runs use
`from api_stub.client import Client`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.agent import Agent
    from worker.db import InMemoryDb, PostgresDb, SqliteDb
    from worker.domain import ChatModel, Retention, SessionSummaryManager
    from worker.errors import InputRefused, OutputRefused
    from worker.loop.definition import Limits
    from worker.loop.definition import Mode as TeamMode
    from worker.loop.run_context import RunContext
    from worker.loop.tools import Tool, tool
    from worker.models.openai_chat import OpenAIChat
    from worker.models.scripted import Calls, ScriptedModel
    from worker.run_output import RunOutput
    from worker.team import Team
    from worker.toolkits import Toolkit

__all__ = [
    "Agent",
    "Calls",
    "ChatModel",
    "InMemoryDb",
    "InputRefused",
    "Limits",
    "OpenAIChat",
    "OutputRefused",
    "PostgresDb",
    "Retention",
    "RunContext",
    "RunOutput",
    "ScriptedModel",
    "SessionSummaryManager",
    "SqliteDb",
    "Team",
    "TeamMode",
    "Tool",
    "Toolkit",
    "tool",
]

# A name's module is imported when the name is first used: most commands need few of them, and openai is slow to import.
_MODULES = {
    "worker.agent": ("Agent",),
    "worker.db": ("InMemoryDb", "PostgresDb", "SqliteDb"),
    "worker.domain.chat": ("ChatModel",),
    "worker.domain.retention": ("Retention",),
    "worker.domain.summary": ("SessionSummaryManager",),
    "worker.errors": ("InputRefused", "OutputRefused"),
    "worker.loop.definition": ("Limits",),
    "worker.loop.run_context": ("RunContext",),
    "worker.loop.tools": ("Tool", "tool"),
    "worker.models.openai_chat": ("OpenAIChat",),
    "worker.models.scripted": ("Calls", "ScriptedModel"),
    "worker.run_output": ("RunOutput",),
    "worker.team": ("Team",),
    "worker.toolkits": ("Toolkit",),
}


def __getattr__(name: str) -> object:
    if name == "TeamMode":  # Agno's name of it
        return importlib.import_module("worker.loop.definition").Mode
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'worker' has no attribute {name!r}")
