"""Members: how a leader delegates, and how a crash inside a delegation resumes inside it."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.unit.chat_server import WAIT_S
from tests.unit.list_journal import ListJournal
from worker.agent import Agent
from worker.clock import now
from worker.domain import ChatRequest, Draft, Role, Stop
from worker.errors import DefinitionInvalid, ModelUnavailable
from worker.loop.conversation import Conversation, History
from worker.loop.definition import Limits
from worker.loop.loop import converse
from worker.loop.run_context import RunContext
from worker.loop.tools import tool
from worker.loop.user_loop import UserLoop
from worker.models.event_loop import EventLoop
from worker.models.scripted import Calls, ScriptedModel
from worker.team import Team

IDS: dict[str, Any] = {"run_id": "run", "session_id": "s", "user_id": "u", "created_at": now()}
IDS |= {"silence_s": 5.0, "coroutines": UserLoop()}


@pytest.fixture
def run(event_loop: EventLoop) -> Callable[..., Draft]:
    """Converse as a team's leader."""

    def converse_with(team: Team, journal: ListJournal) -> Draft:
        model = team.definition.model
        assert model is not None
        limits = Limits(turns=50, tool_calls=50)
        parts = (team.definition, model, limits, History(), journal, journal, event_loop.ask, Stop())
        return converse(Conversation(*parts, **IDS))

    return converse_with


def to(member: str, task: str = "do it") -> tuple[str, dict[str, Any]]:
    """A scripted delegation."""
    return ("delegate_task_to_member", {"member_id": member, "task": task})


def of(journal: ListJournal, delegation: str | None) -> list[tuple[str, str, str]]:
    """Role, author and content of the messages of a delegation."""
    return [(m.role, m.author, m.content) for m in journal.log if m.delegation == delegation]


def test_a_leader_delegates_and_answers(run: Callable[..., Draft]) -> None:
    """The member sees its task and its role, the leader its answer, and both are in the history by name."""
    member = ScriptedModel(["42"])
    leader = ScriptedModel([Calls(to("counter", "count")), "It is 42."])
    agent = Agent(name="Counter", role="counts", model=member, instructions="Be exact.")
    journal = ListJournal()

    answer = run(Team(model=leader, members=[agent]), journal)

    assert (answer.content, answer.author) == ("It is 42.", "team")
    assert of(journal, "2.0") == [("user", "team", "count"), ("assistant", "counter", "42")]
    assert [m.content for m in member.requests[0].messages][1:] == ["count"]
    assert "counts" in member.requests[0].messages[0].content
    assert "- counter: counts" in leader.requests[0].messages[0].content
    assert [m.content for m in leader.requests[1].messages][-1] == "42"


def test_delegations_of_one_reply_run_in_parallel(run: Callable[..., Draft]) -> None:
    """Three members that wait for each other all arrive."""
    together = threading.Barrier(3, timeout=WAIT_S)

    @tool
    def meet() -> str:
        """Meet the others."""
        together.wait()
        return "met"

    members = [Agent(id=f"m{n}", model=ScriptedModel([Calls(("meet", {})), f"done {n}"]), tools=[meet]) for n in "abc"]
    leader = ScriptedModel([Calls(to("ma"), to("mb"), to("mc")), "All done."])
    journal = ListJournal()

    answer = run(Team(model=leader, members=members), journal)

    assert answer.content == "All done."
    assert sorted(m.content for m in leader.requests[1].messages if m.role == "tool") == ["done a", "done b", "done c"]


def test_an_invented_member_is_told_to_the_leader(run: Callable[..., Draft]) -> None:
    """The leader can correct itself."""
    leader = ScriptedModel([Calls(to("nobody")), Calls(to("a")), "Done."])
    journal = ListJournal()

    run(Team(model=leader, members=[Agent(id="a", model=ScriptedModel(["yes"]))]), journal)

    assert "there is no member 'nobody'. The members are: a." in leader.requests[1].messages[-1].content


def test_a_routed_answer_is_the_members(run: Callable[..., Draft]) -> None:
    """The leader is not asked again."""
    leader = ScriptedModel([Calls(to("a"))])
    team = Team(model=leader, members=[Agent(id="a", model=ScriptedModel(["mine"]))], mode="route")

    answer = run(team, ListJournal())

    assert (answer.content, answer.author) == ("mine", "a")
    leader.check_finished()


def test_a_broadcast_asks_every_member_and_the_leader_answers(run: Callable[..., Draft]) -> None:
    """Each gets the user's input; the leader is asked once, with all answers."""
    members = [Agent(id=f"m{n}", model=ScriptedModel([f"from {n}"])) for n in "ab"]
    leader = ScriptedModel(["Both."])
    journal = ListJournal()

    answer = run(Team(model=leader, members=members, mode="broadcast"), journal)

    assert answer.content == "Both."
    assert [of(journal, f"2.{n}")[0][2] for n in (0, 1)] == ["hello", "hello"]
    for name, member in zip("ab", journal.log[1].tool_calls, strict=True):
        shown = f"{member.name}({member.arguments}) returned:\nfrom {name}\n"
        assert shown in leader.requests[0].messages[-1].content
    assert leader.requests[0].tools == ()


def test_teams_nest(run: Callable[..., Draft]) -> None:
    """A member that is a team leads its own."""
    inner = Team(
        id="inner",
        model=ScriptedModel([Calls(to("deep")), "inner done"]),
        members=[Agent(id="deep", model=ScriptedModel(["deep done"]))],
    )
    journal = ListJournal()

    answer = run(Team(model=ScriptedModel([Calls(to("inner")), "outer done"]), members=[inner]), journal)

    assert answer.content == "outer done"
    assert {m.author for m in journal.log if m.delegation} == {"team", "inner", "deep", "delegate_task_to_member"}


def test_a_crash_inside_a_delegation_resumes_inside_it(run: Callable[..., Draft]) -> None:
    """What members had answered is not asked again; the interrupted one goes on behind its own last message."""

    @tool
    def step() -> str:
        """Take a step."""
        return "stepped"

    finished, interrupted = (
        ScriptedModel(["first done"]),
        ScriptedModel([Calls(("step", {})), ModelUnavailable(model="m", reason="x")]),
    )
    leader = ScriptedModel([Calls(to("a"), to("b"))])

    def team(a: Any, b: Any, leads: Any) -> Team:
        return Team(model=leads, members=[Agent(id="a", model=a), Agent(id="b", model=b, tools=[step])])

    journal = ListJournal()
    with pytest.raises(ModelUnavailable):
        run(team(finished, interrupted, leader), journal)
    again = ScriptedModel(["second done"])
    after = ScriptedModel(["all done"])

    answer = run(team(ScriptedModel([]), again, after), journal)

    assert answer.content == "all done"
    assert len(again.requests) == len(after.requests) == 1
    assert [m.role for m in again.requests[0].messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]


def test_parallel_tools_lose_no_key_of_the_state(run: Callable[..., Draft]) -> None:
    """Each sets a key of its own; the next call's context shows them all."""
    together = threading.Barrier(8, timeout=WAIT_S)

    @tool
    def put(key: str, context: RunContext) -> str:
        """Put a key."""
        together.wait()
        context.session_state[key] = {"by": key}
        return "put"

    def look(request: ChatRequest) -> str:
        return request.messages[-1].content

    model = ScriptedModel([Calls(*[("put", {"key": f"k{n}"}) for n in range(8)]), look])
    journal = ListJournal()

    answer = run(Team(model=model, tools=[put], add_session_state_to_context=True), journal)

    assert set(journal.state) == {f"k{n}" for n in range(8)}
    assert json.loads(answer.content.splitlines()[-2]) == journal.state


def test_a_state_that_is_no_json_is_told_to_the_model(run: Callable[..., Draft]) -> None:
    """The tool's own result is kept; the state is not changed."""

    @tool
    def spoil(context: RunContext) -> str:
        """Spoil the state."""
        context.session_state["x"] = {1, 2}
        return "spoiled"

    model = ScriptedModel([Calls(("spoil", {})), "ok"])
    journal = ListJournal()

    run(Team(model=model, tools=[spoil]), journal)

    assert journal.state == {}
    assert "cannot be stored as JSON" in model.requests[1].messages[-1].content


@pytest.mark.parametrize(
    ("options", "mistakes"),
    [
        ({"members": [Agent(id="a", model=ScriptedModel([])), Agent(id="a", model=ScriptedModel([]))]}, ["the id 'a'"]),
        ({"on_member_failure": "ignore"}, ["on_member_failure is 'ignore'"]),
        ({"members": ["a"]}, ["a member is a str"]),
        (
            {"num_history_runs": -1, "num_history_messages": -2},
            ["num_history_runs is -1", "history_messages is -2"],
        ),
        ({"mode": "shout"}, ["mode is 'shout'"]),
        ({"mode": "route"}, ["needs members"]),
        ({"tools": [lambda x: x]}, ["cannot be a tool"]),
        ({"session_state": {"x": {1}}}, ["session_state cannot be stored"]),
        ({"limits": Limits(turns=-1)}, ["limits.turns is -1"]),
    ],
)
def test_a_definition_is_checked_when_it_is_made(options: dict[str, Any], mistakes: Sequence[str]) -> None:
    """Every mistake is named at once."""
    with pytest.raises(DefinitionInvalid) as found:
        Team(**options)

    assert all(mistake in str(found.value) for mistake in mistakes)
