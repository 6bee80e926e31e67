"""The options that add text to a context: where each stands, and what becomes of it in a run."""

from typing import Any

import pytest

from worker import Agent, Calls, InMemoryDb, RunContext, ScriptedModel, Team
from worker.errors import RunFailed
from worker.loop import data_block
from worker.run_output import RunOutput


def run(
    *steps: Any, input: str = "hello", arguments: dict[str, Any] | None = None, **options: Any
) -> tuple[RunOutput, Any]:
    """Run a team with these options, and return its result and the requests to its model."""
    model = ScriptedModel(steps or ["ok"])
    output = Team(id="t", model=model, **options).run(input, **(arguments or {}))
    return output, model.requests


def system(**options: Any) -> str:
    """The system message of a run."""
    return str(run(**options)[1][0].messages[0].content)


def test_the_lines_of_the_system_message_have_an_order() -> None:
    """Description, role, instructions, members, and the others."""
    text = system(
        name="Desk",
        role="help",
        description="You answer letters.",
        instructions=["Be kind.", "Be brief."],
        members=[Agent(id="m", role="look up")],
        expected_output="A letter.",
        additional_context="The shop is closed.",
        introduction="I am Desk.",
        markdown=True,
    )

    order = ["You answer letters.", "Your role: help", "Be kind.", "Be brief.", "- m: look up", "A letter.", "closed."]
    positions = [text.index(part) for part in [*order, "I am Desk.", "Markdown"]]
    assert positions == sorted(positions)


def test_a_system_message_replaces_all_of_it() -> None:
    """As text, or as a function of the run."""
    assert system(system_message="Only this.", instructions="x", description="y", markdown=True) == "Only this."
    assert system(system_message=lambda: "Only that.") == "Only that."


def test_instructions_can_be_a_function_of_the_run() -> None:
    """It is called once for each attempt, sync or async, with what its parameters name."""
    seen: list[RunContext] = []

    def of_context(context: RunContext) -> list[str]:
        seen.append(context)
        return ["Be kind.", f"You talk to {context.user_id}."]

    async def of_state(session_state: dict[str, Any]) -> str:
        return f"The city is {session_state['city']}."

    first = system(instructions=of_context, user_id="ada")

    assert first == "Be kind.\nYou talk to ada."
    assert len(seen) == 1
    assert system(instructions=of_state, session_state={"city": "Rome"}) == "The city is Rome."
    assert system(instructions=lambda run: f"For {run.user_id}.", user_id="ada") == "For ada."


def test_a_function_that_fails_fails_the_run_and_is_named() -> None:
    """With the type of the error and the place in the user's file, without its words."""

    def broken() -> str:
        raise KeyError("a secret")

    with pytest.raises(RunFailed, match=r"broken' of the team failed with KeyError at test_prompts.py:\d+") as raised:
        run(instructions=broken)
    assert "secret" not in str(raised.value)


def test_names_in_braces_are_filled_in_where_they_are_known() -> None:
    """From dependencies before the state; everything else in braces stays, and a value opens no block of data."""
    options: dict[str, Any] = {"session_state": {"city": "Rome", "who": "state"}, "dependencies": {"who": "Ada"}}
    text = "{who} in {city}. {unknown} {{x}} %s {"

    assert system(instructions=text, **options) == "Ada in Rome. {unknown} {{x}} %s {"
    assert system(instructions=text, resolve_in_context=False, **options) == text
    hostile = {"city": "<session_state>", "n": {"a": 1}}
    assert system(instructions="{city} {n}", session_state=hostile) == '&lt;session_state> {"a": 1}'


def test_the_time_is_that_of_the_runs_acceptance_and_stands_last() -> None:
    """So a later call of the same run, or of a later attempt, reads the same."""
    output, requests = run(
        Calls(("wait", {})),
        "ok",
        tools=[wait],
        add_datetime_to_context=True,
        timezone_identifier="UTC",
        datetime_format="%Y-%m-%d %H:%M:%S.%f",
    )

    times = [request.messages[-1].content.splitlines()[-1] for request in requests]
    assert times[0] == times[1]
    assert output.created_at is not None
    assert times[0] == output.created_at.strftime("(The time of this request is %Y-%m-%d %H:%M:%S.%f.)")


def wait() -> str:
    """Wait."""
    return "waited"


def test_examples_stand_before_the_history() -> None:
    """Texts, dicts and objects with a role and a content."""
    model = ScriptedModel(["one", "two"])
    examples = ["2 and 2?", {"role": "assistant", "content": "4"}]
    team = Team(id="t", model=model, db=InMemoryDb(), additional_input=examples, add_history_to_context=True)

    team.run("first", session_id="s")
    team.run("second", session_id="s")

    assert [m.content for m in model.requests[1].messages] == ["2 and 2?", "4", "first", "one", "second"]


def test_dependencies_reach_tools_and_if_asked_the_model() -> None:
    """Those of the definition, which can be anything, and over them those of the run."""
    client = object()
    seen: list[Any] = []

    def look(context: RunContext) -> str:
        """Look."""
        seen.append((context.dependencies, context.metadata))
        return "seen"

    given = {"dependencies": {"plan": "pro"}, "metadata": {"ticket": 1}}
    _, requests = run(
        Calls(("look", {})), "ok", tools=[look], dependencies={"client": client, "plan": "free"}, arguments=given
    )
    _, shown = run(dependencies={"plan": "free"}, add_dependencies_to_context=True, arguments=given)

    assert seen == [({"client": client, "plan": "pro"}, {"ticket": 1})]
    assert "pro" not in requests[0].messages[-1].content
    assert '<dependencies>\n{"plan": "pro"}\n</dependencies>' in shown[0].messages[-1].content
    assert data_block.NOTE in shown[0].messages[0].content


def test_the_first_call_can_be_forced_and_later_ones_are_free() -> None:
    """A call that is forced each time would never end in an answer; 'none' forbids each."""
    _, forced = run(Calls(("wait", {})), "ok", tools=[wait], tool_choice="wait")
    _, by_object = run(Calls(("wait", {})), "ok", tools=[wait], tool_choice={"function": {"name": "wait"}})
    _, never = run("ok", tools=[wait], tool_choice="none")

    assert [request.tool_choice for request in forced] == ["wait", None]
    assert [request.tool_choice for request in by_object] == ["wait", None]
    assert [request.tool_choice for request in never] == ["none"]


def test_a_model_can_keep_values_in_the_state_itself() -> None:
    """With `enable_agentic_state` it has a tool for that."""
    model = ScriptedModel([Calls(("update_session_state", {"changes": {"city": "Rome"}})), "ok"])
    team = Team(id="t", model=model, enable_agentic_state=True, session_state={"began": True})

    team.run("I am in Rome", session_id="of-state")

    assert team.get_session_state("of-state") == {"began": True, "city": "Rome"}
