"""`print_response` and `cli_app`: the answer as it comes, with tool calls and members, and why there is none."""

import asyncio
from typing import Any

import pytest

from worker import Agent, Calls, ScriptedModel, Team
from worker.errors import ModelRefused, RunFailed


def look(city: str) -> str:
    """Look at a city."""
    if city == "nowhere":
        raise LookupError(city)
    return f"{city} is sunny"


def team(**options: Any) -> Team:
    """A leader with a tool that works, one call that fails, and a member."""
    member = Agent(id="ada", model=ScriptedModel(["Pack a hat."]))
    calls = [("look", {"city": "Rome"}), ("delegate_task_to_member", {"member_id": "ada", "task": "advise"})]
    steps = [Calls(*calls), Calls(("look", {"city": "nowhere"})), "Go to Rome."]
    return Team(id="t", model=ScriptedModel(steps), members=[member], tools=[look], **options)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_answer_is_printed_with_what_led_to_it(capsys: pytest.CaptureFixture[str], asynchronous: bool) -> None:
    """Tool calls, failures and members in brackets; the answer once, whole, at the end."""
    if asynchronous:
        asyncio.run(team().aprint_response("Where to?", stream=True))
    else:
        team().print_response("Where to?")

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Go to Rome."
    assert {"[look …]", "[→ ada]", "[← ada]", "[look failed]", "Pack a hat."} <= set(lines)
    assert lines.index("[ada]") + 1 == lines.index("Pack a hat.")
    assert lines.count("Go to Rome.") == 1


def test_members_answers_and_pieces_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`show_member_responses=False` and `stream=False`."""
    team().print_response("Where to?", show_member_responses=False, stream=False, markdown=False)

    printed = capsys.readouterr().out
    assert "Pack a hat." not in printed
    assert printed.endswith("Go to Rome.\n")


def test_a_run_that_fails_is_printed_and_raised(capsys: pytest.CaptureFixture[str]) -> None:
    """As `run` raises it."""
    broken = Team(id="t", model=ScriptedModel([ModelRefused(model="m", reason="no")]))

    with pytest.raises(RunFailed, match="refused the request"):
        broken.print_response("hello")

    assert capsys.readouterr().out == "[failed]\n"


def test_a_conversation_in_the_terminal_is_one_session(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until 'exit' or Ctrl-D; empty lines say nothing."""
    typed = iter(["hello", " ", "again", "exit", "never"])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(typed))
    model = ScriptedModel(["Hello.", "Again."])
    talking = Team(id="t", model=model, add_history_to_context=True)

    talking.cli_app()

    assert capsys.readouterr().out == "Hello.\nAgain.\n\n"
    assert [m.content for m in model.requests[1].messages] == ["hello", "Hello.", "again"]
