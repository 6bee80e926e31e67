"""Sessions with strict servers, over sockets: no run leaves a history that a later run cannot send."""

from typing import Any

import pytest

from tests.support.strict_servers import Answer, StrictServer, strict_server
from worker import Agent, OpenAIChat, Team, tool
from worker.db import Db
from worker.errors import RunFailed

DELEGATE = ("call_1", "delegate_task_to_member", '{"member_id": "m", "task": " "}')


@tool
def note(text: str = "") -> str:
    """Note something, and say nothing about it."""
    return text


def model(server: StrictServer) -> OpenAIChat:
    """A model that asks for ids of its own form too."""
    return OpenAIChat("mistral-own", "k", server.base_url)


def talk(team: Team, *inputs: str) -> list[str]:
    """Return the answer of each run of a session, or that it failed."""
    answers = []
    for text in inputs:
        try:
            answers.append(team.run(text, session_id=f"{team.id}-s").content)
        except RunFailed:
            answers.append("failed")
    return answers


ONE_RUN: list[tuple[list[Answer | int], str]] = [
    ([400], "failed"),  # without a word
    ([[("call_1", "note", '{"text": "once upon')], "ok"], "ok"),  # cut off
    ([[("call_1", "note", ""), ("call_1", "note", "[1]")], "ok"], "ok"),
    ([[("call_1", "note", "{}"), ("x" * 80, "nope", "{}")], "ok"], "ok"),
    ([[("call_1", "note", '{"text": "x"}')], 400], "failed"),  # behind a tool
    ([[DELEGATE], [("call_1", "note", "")], "done", "ok"], "ok"),
]


@pytest.mark.default_on("sqlite")
def test_strict_servers_take_every_later_run(database_url: str) -> None:
    """Behind failed runs, cut arguments, invented tools and empty results; also for a team without its tools."""
    answers = [answer for answers, _ in ONE_RUN for answer in answers]
    with strict_server(*answers, "ok", "ok", "ok") as server:
        options: dict[str, Any] = {
            "id": "t",
            "instructions": "Be kind.",
            "add_history_to_context": True,
            "num_history_runs": 20,
            "session_state": {"a": 1},
            "add_session_state_to_context": True,
            "model": model(server),
            "db": Db(database_url),
        }
        member = Agent(id="m", model=model(server), tools=[note])
        team = Team(tools=[note], members=[member], **options)

        assert talk(team, *(f"turn {n}" for n in range(len(ONE_RUN)))) == [answer for _, answer in ONE_RUN]
        assert talk(team, "and now?") == ["ok"]
        assert talk(Team(**options), "without tools") == ["ok"]
        assert talk(Team(members=[member], **options), "without the note") == ["ok"]

    assert server.refused == []
    assert all(
        "turn 0" in body["messages"][1]["content"] for body in server.bodies if body["messages"][0]["role"] == "system"
    )


@pytest.mark.parametrize("mode", ["broadcast", "route"])
def test_strict_servers_take_the_modes_of_a_team(mode: str) -> None:
    """A broadcast delegates by calls that the leader did not make; a routed answer is the member's."""
    calls: list[Answer | int] = [] if mode == "broadcast" else [[DELEGATE]]
    with strict_server(*[*calls, "from m", *(["ok"] if mode == "broadcast" else [])] * 2) as server:
        member = Agent(id="m", model=model(server))
        team = Team(id=mode, mode=mode, model=model(server), members=[member], add_history_to_context=True)

        assert talk(team, "one", "two") == ["ok" if mode == "broadcast" else "from m"] * 2

    assert server.refused == []
