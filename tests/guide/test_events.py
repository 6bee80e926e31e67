"""The loop on the page of events prints the answer, and nothing twice."""

import re
from typing import Any

import pytest

from api_stub.client import Event
from tests.support.system import ROOT
from worker import Agent, Calls, ScriptedModel, Team
from worker.errors import ModelRefused

PAGE = (ROOT / "ops/handbook/events.md").read_text()
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    """What the page's loop prints of some events."""
    names: dict[str, Any] = {}
    [block] = BLOCK.findall(PAGE)
    exec(compile(block, "events.md", "exec"), names)  # the page is ours

    def show(events: Any) -> str:
        names["print_answer"](events)
        return capsys.readouterr().out

    return show


def test_the_loop_prints_the_answer_alone(printed: Any) -> None:
    """Neither the words of members nor a call of a tool; how a run ended, if without an answer."""
    member = Agent(id="ada", model=ScriptedModel(["words of a member"]))
    steps = [Calls(("delegate_task_to_member", {"member_id": "ada", "task": "advise"})), "Go to Rome."]
    team = Team(id="t", model=ScriptedModel([*steps, ModelRefused(model="m", reason="no")]), members=[member])

    assert printed(team.run("Where to?", stream=True)).split("\n") == ["", "Go to Rome.", ""]
    assert printed(team.run("And now?", stream=True)) == "[run.failed]\n"


def test_the_loop_survives_what_happens_to_a_stream(printed: Any) -> None:
    """A lost worker, missing deltas, and a message that comes twice."""

    def delta(text: str) -> Event:
        return Event("1-1", "message.delta", {"message_id": "1", "author": "t", "delegation": None, "delta": text})

    data = {"message_id": "1", "role": "assistant", "author": "t", "delegation": None, "content": "Go to Rome."}
    restarted, whole = Event("2-1", "message.restarted", {"message_id": "1"}), Event("2-9", "message.completed", data)
    cancelled = Event("3-0", "run.cancelled", {"id": "r", "status": "cancelled"})

    assert printed([delta("Go to M"), restarted, delta("Go to "), whole]) == "Go to M\n[written again]\nGo to Rome.\n"
    assert printed([delta("Go "), whole, whole]) == "Go to Rome.\n\n"
    assert printed([cancelled]) == "[run.cancelled]\n"
