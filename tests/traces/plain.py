"""A script's team, and teams of a process that executes one run."""

from worker import ScriptedModel, Team
from worker.domain import ChatRequest


def fail(_request: ChatRequest) -> str:
    """Raise what no model should."""
    raise RuntimeError("words")


team = Team(id="plain", model=ScriptedModel(["done"]))
fails = Team(id="fails", model=ScriptedModel([fail], id="fails"))
