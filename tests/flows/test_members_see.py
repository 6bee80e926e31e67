"""What a member is shown besides its task: its own earlier tasks, the team's history, what others did, the input."""

from collections.abc import Iterator
from typing import Any

import pytest

from worker import Agent, Calls, ScriptedModel, Team
from worker.db import Db


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    db = Db(database_url)
    yield db
    db.close()


def to(member: str, task: str) -> tuple[str, dict[str, Any]]:
    return ("delegate_task_to_member", {"member_id": member, "task": task})


def texts(model: ScriptedModel, call: int) -> list[str]:
    """What a model was sent in one of its calls, without the system message."""
    return [m.content for m in model.requests[call].messages if m.role != "system"]


def test_a_member_with_history_is_shown_its_own_earlier_tasks(db: Db) -> None:
    """And no other member's; the last ones, oldest first."""
    ada, other = ScriptedModel(["a1", "a2", "a3"]), ScriptedModel(["o1"])
    members = [
        Agent(id="ada", model=ada, add_history_to_context=True, num_history_runs=1),
        Agent(id="other", model=other, add_history_to_context=True),
    ]
    steps = [
        *(Calls(to("ada", "one")), "x"),
        *(Calls(to("ada", "two"), to("other", "else")), "y"),
        *(Calls(to("ada", "three")), "z"),
    ]
    team = Team(id="t", model=ScriptedModel(steps), members=members, db=db)

    for n in range(3):
        team.run(f"go {n}", session_id="s")

    assert texts(ada, 0) == ["one"]
    assert texts(ada, 1) == ["one", "a1", "two"]
    assert texts(ada, 2) == ["two", "a2", "three"]
    assert texts(other, 0) == ["else"]


def test_members_can_be_shown_the_teams_history_and_each_other(db: Db) -> None:
    """As data at the end of the task, which stays as it was given."""
    first, second = ScriptedModel(["Rome"]), ScriptedModel(["sunny"])
    members = [Agent(id="where", model=first), Agent(id="weather", model=second)]
    steps = ["Hello Ada", Calls(to("where", "find her city")), Calls(to("weather", "look")), "It is sunny"]
    team = Team(
        id="t",
        model=ScriptedModel(steps),
        members=members,
        add_team_history_to_members=True,
        share_member_interactions=True,
        db=db,
    )

    team.run("I am Ada", session_id="s")
    output = team.run("How is the weather?", session_id="s")

    [task] = texts(second, 0)
    assert task.startswith("look\n\n<team_history>\n")
    assert "user: I am Ada\nassistant: Hello Ada" in task
    assert "where was given: find her city\nand answered: Rome" in task
    assert [response.task for response in output.member_responses] == ["find her city", "look"]


def test_a_member_can_be_given_the_input_as_it_is(db: Db) -> None:
    """With `determine_input_for_members=False` the leader's words for the task are not used."""
    model = ScriptedModel(["Rome"])
    team = Team(
        id="t",
        model=ScriptedModel([Calls(to("m", "in other words")), "done"]),
        members=[Agent(id="m", model=model)],
        determine_input_for_members=False,
        db=db,
    )

    team.run("Where is my parcel?")

    assert texts(model, 0) == ["Where is my parcel?"]


def test_the_leader_can_be_shown_its_members_tools(db: Db) -> None:
    """By name, beside their roles."""

    def look_up(city: str) -> str:
        """Look a city up."""
        return city

    model = ScriptedModel(["hi"])
    members = [Agent(id="m", role="finds cities", tools=[look_up])]

    Team(id="t", model=model, members=members, add_member_tools_to_context=True, db=db).run("hi")

    assert "- m: finds cities (tools: look_up)" in model.requests[0].messages[0].content
