"""Toolkits and tools that were made for Agno: their functions are tools like all others."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import team_sessions

from worker import Calls, InMemoryDb, ScriptedModel, Team
from worker.errors import DefinitionInvalid


@dataclass
class Function:
    """What such a toolkit holds for each function."""

    name: str
    entrypoint: Any
    description: str | None = None
    stop_after_tool_call: bool = False
    requires_confirmation: bool = False


class RunContext:
    """A context of the other product, by its name."""


class Toolkit:
    """A toolkit, as far as it is looked at."""

    def __init__(self, **functions: Any) -> None:
        self.functions = OrderedDict((name, Function(name, entry)) for name, entry in functions.items())


def add(a: int, b: int, agent: Any = None) -> int:
    """Add."""
    return a + b


def who(run_context: RunContext) -> str:
    """Say who asks."""
    return str(run_context.user_id)  # type: ignore[attr-defined]


def test_the_functions_of_a_toolkit_are_tools() -> None:
    """With its names; what only the other product fills in is hidden, and its context is ours."""
    steps = [Calls(("plus", {"a": 1, "b": 2}), ("who", {})), "done"]
    model = ScriptedModel(steps)
    team = Team(model=model, tools=[Toolkit(plus=add, who=who)])

    output = team.run("go", user_id="ada")

    assert [(t.name, sorted(t.parameters.get("properties", {}))) for t in model.requests[0].tools] == [
        ("plus", ["a", "b"]),
        ("who", []),
    ]
    assert sorted(call.result or "" for call in output.tools) == ["3", "ada"]


def test_a_single_function_of_a_toolkit_keeps_its_options() -> None:
    """A description of its own, and that its result is the answer."""
    model = ScriptedModel([Calls(("plus", {"a": 1, "b": 2}))])
    team = Team(model=model, tools=[Function("plus", add, "Add two numbers.", stop_after_tool_call=True)])

    assert team.run("go").content == "3"
    assert model.requests[0].tools[0].description == "Add two numbers."


def test_a_function_of_a_toolkit_keeps_what_it_asks_for() -> None:
    """It is not called without the confirmation."""
    model = ScriptedModel([Calls(("plus", {"a": 1, "b": 2})), "done"])
    team = Team(model=model, db=InMemoryDb(), tools=[Function("plus", add, requires_confirmation=True)])

    output = team.run("go")
    output.active_requirements[0].confirm()

    assert team.continue_run(output).content == "done"


def test_a_class_in_place_of_an_object_is_named() -> None:
    """The usual slip: `tools=[Toolkit]`."""
    with pytest.raises(DefinitionInvalid, match=r"'Toolkit' cannot be a tool: .* use an instance: Toolkit\(\)"):
        Team(tools=[Toolkit])


class Calculator(team_sessions.Toolkit):
    """Ours: bound methods that belong together."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        super().__init__("calculator", tools=[self.double])

    def double(self, n: int) -> str:
        """Double a number."""
        return f"{2 * n} {self.unit}"


def test_a_toolkit_of_ones_own_holds_what_its_functions_share() -> None:
    """As it is done for Agno, with only the import changed."""
    team = Team(model=ScriptedModel([Calls(("double", {"n": 2})), "done"]), tools=[Calculator("km")])

    assert [call.result for call in team.run("go").tools] == ["4 km"]
