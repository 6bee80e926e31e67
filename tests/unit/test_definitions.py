"""What a definition takes, and what it refuses: each mistake is a sentence, and all are named at once."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker import (
    Agent,
    InMemoryDb,
    Limits,
    OpenAIChat,
    ScriptedModel,
    SessionSummaryManager,
    SqliteDb,
    Team,
    TeamMode,
    agno_names,
    tool,
)
from worker.errors import ArgumentInvalid, DefinitionInvalid, InvalidType
from worker.loop.definition import Mode
from worker.options import Options, TeamOptions


def mistakes(make: Callable[[], object]) -> str:
    """The sentences of a definition that is refused."""
    with pytest.raises(DefinitionInvalid) as raised:
        make()
    return raised.value.message


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instructions": {"a": 1}}, "instructions is a dict; expected text, a list of texts, or a function"),
        ({"instructions": ["a", 1]}, "instructions has 1 in its list; expected texts"),
        ({"tools": max}, "tools is a function; expected a list of functions: tools=[…]"),
        ({"tools": [5]}, "Function 'int' cannot be a tool: it is not a callable object"),
        ({"members": [5]}, "a member is a int; expected an Agent or a Team"),
        ({"model": 5}, "model is 5; expected a model, such as OpenAIChat(id='gpt-5-mini'), or its name"),
        ({"model": OpenAIChat}, "model is a type; expected a model"),
        ({"num_history_runs": "3"}, "num_history_runs is '3'; expected a whole number, 0 or more"),
        ({"num_history_runs": -1}, "num_history_runs is -1; expected 0 or more"),
        ({"num_history_runs": True}, "num_history_runs is True; expected 0 or more"),
        ({"add_history_to_context": "yes"}, "add_history_to_context is 'yes'; expected True or False"),
        ({"mode": "swarm"}, "mode is 'swarm'; expected one of coordinate, route, broadcast"),
        ({"mode": "route"}, "mode 'route' needs members, and there are none"),
        ({"session_state": {"a": {1}}}, "session_state cannot be stored as JSON"),
        ({"limits": 5}, "limits is 5; expected Limits(…)"),
        ({"limits": Limits(turns=-1)}, "limits.turns is -1; expected 0 or more"),
        ({"db": "sqlite.db"}, "db is 'sqlite.db'; expected a database, such as SqliteDb(db_file='sessions.db')"),
        ({"pre_hooks": [5]}, "pre_hooks has 5 in its list; expected functions"),
        ({"tool_choice": "nowhere"}, "tool_choice is 'nowhere'; expected one of 'auto', 'required', 'none'"),
        ({"timezone_identifier": "Mars/Base"}, "timezone_identifier is 'Mars/Base'; expected a name such as"),
        ({"additional_input": [5]}, "additional_input has 5 in its list; expected texts, or"),
        ({"name": "🦊"}, "name '🦊' has no letter or digit to make an id of; set an id: id='team'"),
        ({"instrctions": "x"}, "there is no option 'instrctions' (did you mean 'instructions'?)"),
        ({"knowledge": object()}, "knowledge does not exist here. Retrieval is not part of Team Sessions. Give the"),
    ],
)
def test_a_wrong_value_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    """It names the option, what was found and what is expected."""
    assert sentence in mistakes(lambda: Team(**options))


def test_all_mistakes_are_named_at_once() -> None:
    """Of values, of names, and of what the two make together."""
    found = mistakes(lambda: Team(id="t", instructions=5, markdwon=True, mode="route", reasoning=True))  # type: ignore[call-arg, arg-type]

    assert "The definition of team 't' has 4 mistake(s):" in found
    assert all(part in found for part in ("instructions is 5", "'markdown'?", "needs members", "reasoning does not"))


@pytest.mark.parametrize("name", sorted(TeamOptions.__annotations__))
def test_none_is_the_default_of_each_option(name: str) -> None:
    """People pass on what they were not given."""
    assert Team(**{name: None}).definition == Team().definition  # type: ignore[arg-type]


def test_the_same_options_are_those_of_an_agent_but_for_members() -> None:
    """One definition: an agent is a team without members."""
    agent = Agent(id="t", name="T", role="r", markdown=True, num_history_runs=2, session_state={"a": 1})
    team = Team(id="t", name="T", role="r", markdown=True, num_history_runs=2, session_state={"a": 1})

    assert agent.definition == team.definition
    assert set(TeamOptions.__annotations__) - set(Options.__annotations__) >= {"members", "mode"}
    assert "there is no option 'members'" in mistakes(lambda: Agent(members=[]))  # type: ignore[call-arg]


def test_a_model_can_be_named() -> None:
    """Of a definition and of its summaries; the prefix of the provider is known from Agno."""
    team = Team(model="gpt-5-mini", session_summary_manager=SessionSummaryManager(model="openai:gpt-5-nano"))  # type: ignore[arg-type]

    assert team.definition.model == OpenAIChat(id="gpt-5-mini")
    assert team.session_summary_manager.model == OpenAIChat(id="gpt-5-nano")


@pytest.mark.parametrize(
    ("name", "id"),
    [("客服", "客服"), ("销售", "销售"), ("Été", "été"), ("R&D / Ops", "r-d-ops"), ("Web_Searcher", "web-searcher")],
)
def test_two_names_give_two_ids(name: str, id: str) -> None:
    """Letters of every language stay, so teams whose names have no ASCII letter do not share one id."""
    assert Team(name=name).id == id


def test_an_alias_is_converted() -> None:
    """Names of Agno that are called otherwise here; a limit of one's own stays beside it."""
    member = Agent(id="m")
    team = Team(
        members=[member],
        respond_directly=True,
        tool_call_limit=5,
        max_iterations=3,
        limits=Limits(tokens=9),
        retries=1,  # type: ignore[call-arg]
    )

    assert team.definition.mode is Mode.ROUTE
    assert team.definition.limits == Limits(turns=3, tool_calls=5, tokens=9, model_retries=1)
    assert Team(members=[member], delegate_to_all_members=True).definition.mode is Mode.BROADCAST  # type: ignore[call-arg]


def test_what_changes_nothing_is_accepted_and_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    """A script keeps its options; the log says why each has no effect."""
    agno_names._noted.clear()
    caplog.set_level("INFO")

    assert Team(show_members_responses=True, debug_mode=True).definition == Team(telemetry=False).definition  # type: ignore[call-arg]
    Team(debug_mode=True)  # type: ignore[call-arg]

    assert [record.message for record in caplog.records].count("option changes nothing") == 3


def test_an_absent_option_that_is_off_is_no_mistake() -> None:
    """`knowledge=None` asks for nothing."""
    Team(knowledge=None, reasoning=False, search_knowledge=False)  # type: ignore[call-arg]


def test_arguments_of_a_run_are_sentences_too() -> None:
    """What `run` does not have, and values that are no text."""
    team = Team(model=ScriptedModel([]))

    with pytest.raises(ArgumentInvalid, match=r"images does not exist here\. An input is text"):
        team.run("hello", images=["x.png"])
    with pytest.raises(ArgumentInvalid, match="there is no option 'sesion_id'"):
        team.run("hello", sesion_id="s")
    for wrong in ({"user_id": 42}, {"session_id": 5}, {"metadata": 5}, {"session_state": 5}, {"dependencies": [1]}):
        with pytest.raises(InvalidType, match=f"{next(iter(wrong))} is of type"):
            team.run("hello", **wrong)
    for input in ({"a": 1}, b"x", None):
        with pytest.raises(InvalidType, match="input is of type"):
            team.run(input)  # type: ignore[call-overload]


def test_ids_can_be_uuids_and_defaults_of_the_definition() -> None:
    """As services have them; None is no user."""
    session, user = uuid.uuid4(), uuid.uuid4()
    team = Team(model=ScriptedModel(["a", "b", "c"]), db=InMemoryDb(), session_id="s", user_id="u")

    assert (team.run("x", session_id=session, user_id=user).session_id, team.run("x").user_id) == (str(session), "u")
    assert Team(model=ScriptedModel(["a"])).run("x", user_id=None).user_id == ""


def test_a_model_finds_a_member_by_what_it_can_mean() -> None:
    """Models write names and other cases; a name that two members have names neither."""
    team = Team(members=[Agent(name="Web Searcher"), Agent(id="a", name="Twin"), Agent(id="b", name="Twin")]).definition

    for meant in ("web-searcher", "Web Searcher", "web_searcher", "WEB-SEARCHER"):
        assert getattr(team.member(meant), "id", None) == "web-searcher"
    assert team.member("Twin") is None
    assert team.member("unknown") is None


@pytest.mark.parametrize("option", sorted({**agno_names.DEFINITION, **agno_names.TEAM}))
def test_every_name_of_the_table_does_what_it_says(option: str) -> None:
    """None of them is also an option of ours, and none ends in a TypeError."""
    assert option not in TeamOptions.__annotations__
    value = 2 if option in ("tool_call_limit", "max_iterations", "retries") else True
    options = {option: value, "members": [Agent(id="m")]}

    if {**agno_names.DEFINITION, **agno_names.TEAM}[option].treated is agno_names.Treated.ABSENT:
        assert f"{option} does not exist here." in mistakes(lambda: Team(**options))  # type: ignore[arg-type]
    else:
        Team(**options)  # type: ignore[arg-type]


def test_a_mode_can_be_named_as_in_agno() -> None:
    """By the members of its enumeration."""
    assert Team(mode=TeamMode.broadcast, members=[Agent(id="m")]).definition.mode is Mode.BROADCAST
    assert list(TeamMode) == list(Mode)


def test_a_database_takes_files_as_people_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~`, any character, an address; a directory and what is missing are sentences."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("~/home.db", tmp_path / "a%20b?x=1#é.db"):
        db = SqliteDb(name, session_table="sessions")
        Team(id="t", model=ScriptedModel(["hello"]), db=db).run("hi", session_id="s")
        db.close()
    memory = SqliteDb(":memory:")

    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["a%20b?x=1#é.db", "home.db"]
    assert Team(model=ScriptedModel(["hello"]), db=memory).run("hi").content == "hello"
    memory.close()
    with pytest.raises(ArgumentInvalid, match="is a directory; name a file in it"):
        SqliteDb(tmp_path)
    with pytest.raises(ArgumentInvalid, match="SqliteDb takes a db_file or a db_url"):
        SqliteDb()
    with pytest.raises(ArgumentInvalid, match=r"there is no option 'db_flie' \(did you mean"):
        SqliteDb("x.db", db_flie="y.db")


def test_parameters_of_a_model_can_be_given_by_their_names() -> None:
    """As Agno's users write them; what is absent or unknown is a sentence."""
    model = OpenAIChat(id="m", temperature=0.2, max_tokens=5, request_params={"user": "u"}, cache_response=True)

    assert model.request_params == {"user": "u", "temperature": 0.2, "max_tokens": 5}
    with pytest.raises(ArgumentInvalid, match=r"there is no option 'temprature' \(did you mean 'temperature'"):
        OpenAIChat(id="m", temprature=0.2)
    with pytest.raises(ArgumentInvalid, match=r"organization does not exist here\. Send it as a header"):
        OpenAIChat(id="m", organization="o")


def test_options_of_a_tool_that_do_not_exist_are_sentences() -> None:
    """Before its function is ever called."""
    with pytest.raises(ArgumentInvalid, match=r"approval_type does not exist here\. Say who decides"):
        tool(approval_type="required")  # type: ignore[call-overload]
    with pytest.raises(ArgumentInvalid, match=r"there is no option 'repeatble' \(did you mean 'repeatable'"):
        tool(repeatble=False)
    assert tool(show_result=True, requires_confirmation=False)(max_of_two).name == "max_of_two"


def max_of_two(a: int, b: int) -> int:
    """Return the larger one."""
    return max(a, b)


def test_a_mode_that_does_not_exist_here_is_a_mistake_of_the_definition() -> None:
    """Though Agno's enumeration has it."""
    assert "mode is 'tasks'; expected one of coordinate, route, broadcast" in mistakes(
        lambda: Team(mode=TeamMode.tasks)
    )


def test_a_dependency_of_a_run_can_be_a_function() -> None:
    """It is called when the run is accepted; what it returns is stored."""
    model = ScriptedModel(["hello"])
    team = Team(id="t", model=model, instructions="For {user}.", dependencies={"user": "Bob"})

    team.run("hi", dependencies={"user": lambda: "Ada"})

    assert model.requests[0].messages[0].content == "For Ada."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"pre_hooks": [lambda run_input, session: None]},
            "it has a parameter 'session', and is called with input",
        ),
        ({"post_hooks": [lambda agent: None]}, "it has a parameter 'agent', and is called with output"),
        (
            {"tool_hooks": [lambda name, what: None]},
            "it has a parameter 'what', and is called with name",
        ),
        (
            {"instructions": lambda agent: "x"},
            "it has a parameter 'agent', and is called with run_context",
        ),
    ],
)
def test_a_function_that_asks_for_what_there_is_not_is_a_mistake(options: dict[str, Any], sentence: str) -> None:
    """Though the first parameter may have any other name: it would silently be given something else."""
    assert sentence in mistakes(lambda: Team(**options))


def test_a_definition_does_not_change_by_an_attribute() -> None:
    """It would not follow. The database and what is for one's own use can be set."""
    team = Team(model=ScriptedModel([]))

    with pytest.raises(AttributeError, match="instructions of a definition does not change; make another Team"):
        team.instructions = "new"  # type: ignore[attr-defined]
    team.metadata = {"a": 1}
    team.db = SqliteDb(":memory:")
