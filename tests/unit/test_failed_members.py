"""A member whose model fails for good: its leader is told, or the team fails, as the team says."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.list_journal import ListJournal
from tests.unit.test_members import run, to  # noqa: F401 - a fixture
from worker.agent import Agent
from worker.domain import ChatRequest, Draft, Reply, open_calls
from worker.errors import LimitReached, ModelEmptyReply, ModelError, ModelRefused, ModelUnavailable
from worker.loop.definition import Limits
from worker.loop.tools import tool
from worker.models.scripted import Calls, ScriptedModel
from worker.team import Team

Run = Callable[..., Draft]
REFUSED = ModelRefused(model="m", reason="401, check OPENAI_API_KEY")


def agent(id: str, *steps: Any, **options: Any) -> Agent:
    return Agent(id=id, model=ScriptedModel(steps), **options)


def results(model: ScriptedModel) -> list[str]:
    """Return what the tools answered in the last request."""
    return sorted(m.content for m in model.requests[-1].messages if m.role == "tool")


@pytest.mark.parametrize("error", [REFUSED, ModelEmptyReply(model="m")])
def test_the_leader_is_told_of_a_member_that_failed(run: Run, error: ModelError) -> None:  # noqa: F811
    """With the reason, beside the answers of the other members; the run goes on."""
    leader = ScriptedModel([Calls(to("a"), to("b")), "Only b."])
    journal = ListJournal()

    answer = run(Team(model=leader, members=[agent("a", error), agent("b", "yes")]), journal)

    assert answer.content == "Only b."
    failed = f"Error: member 'a' failed. {error.message} Continue without it, or delegate the task to another member."
    assert results(leader) == [failed, "yes"]
    ended = [event.data["delegation"] for event in journal.published if event.type == "delegation.completed"]
    assert sorted(ended) == ["2.0", "2.1"]


def test_a_team_can_fail_with_its_member(run: Run) -> None:  # noqa: F811
    """`on_member_failure="fail"`."""
    leader = ScriptedModel([Calls(to("a"))])

    with pytest.raises(ModelRefused):
        run(Team(model=leader, members=[agent("a", REFUSED)], on_member_failure="fail"), ListJournal())


def test_an_error_that_is_retried_ends_the_attempt(run: Run) -> None:  # noqa: F811
    """Its member is asked again by the run's next attempt; the leader is not told yet."""
    leader = ScriptedModel([Calls(to("a"))])
    members = [agent("a", ModelUnavailable(model="m", reason="503"))]

    with pytest.raises(ModelUnavailable):
        run(Team(model=leader, members=members), ListJournal())


def test_a_limit_is_no_failure_of_a_member(run: Run) -> None:  # noqa: F811
    """It is the run's."""
    leader = ScriptedModel([Calls(to("a"))])
    members = [agent("a", *[Calls(("note", {"text": str(n)})) for n in range(60)], tools=[note])]

    with pytest.raises(LimitReached):
        run(Team(model=leader, members=members), ListJournal())


@tool
def note(text: str) -> str:
    """Note a text."""
    return f"noted {text}"


@pytest.mark.parametrize("deeper", [False, True])
def test_a_nested_team_that_fails_is_told_to_the_leader_above(run: Run, deeper: bool) -> None:  # noqa: F811
    """Each team decides for its own members. No call of the failed team is left without a result."""
    broken: Agent | Team = agent("broken", REFUSED)
    if deeper:
        model = ScriptedModel([Calls(to("broken"))])
        broken = Team(id="broken", model=model, members=[broken], on_member_failure="fail")
    journal = ListJournal()

    @tool
    def wait() -> str:
        """Return after the other member has failed: its team then stops this one at its next message."""
        while not any(e.type == "delegation.started" and e.data["member"] == "broken" for e in journal.published):
            time.sleep(0.01)
        time.sleep(0.2)
        return "waited"

    slow = agent("slow", Calls(("wait", {})), "never asked", tools=[wait])
    busy = Team(id="busy", model=ScriptedModel([Calls(to("slow")), "never asked"]), members=[slow])
    inner_model = ScriptedModel([Calls(to("broken"), to("busy"))])
    inner = Team(id="inner", model=inner_model, members=[broken, busy], on_member_failure="fail")
    leader = ScriptedModel([Calls(to("inner"), to("well")), "Done."])

    answer = run(Team(model=leader, members=[inner, agent("well", "fine")]), journal)

    assert answer.content == "Done."
    assert results(leader)[0].startswith("Error: member 'inner' failed. Model 'm' refused")
    assert results(leader)[1] == "fine"
    assert open_calls(journal.log) == []


def test_a_nested_team_can_go_on_without_its_member(run: Run) -> None:  # noqa: F811
    """The inner leader is told, and the outer one gets its answer."""
    inner_model = ScriptedModel([Calls(to("broken")), "without it"])
    inner = Team(id="inner", model=inner_model, members=[agent("broken", REFUSED)])
    leader = ScriptedModel([Calls(to("inner")), "Done."])

    run(Team(model=leader, members=[inner], on_member_failure="fail"), ListJournal())

    assert results(leader) == ["without it"]


def test_routed_and_broadcast_members_can_fail(run: Run) -> None:  # noqa: F811
    """Without an answer to route, the leader is asked; a broadcast is answered from the others."""
    router, caster = ScriptedModel([Calls(to("a")), "I am sorry."]), ScriptedModel(["From b."])

    routed = run(Team(model=router, members=[agent("a", REFUSED)], mode="route"), ListJournal())
    cast = run(Team(model=caster, members=[agent("a", REFUSED), agent("b", "yes")], mode="broadcast"), ListJournal())

    assert (routed.content, routed.author) == ("I am sorry.", "team")
    assert cast.content == "From b."
    assert "returned:\nyes" in caster.requests[0].messages[-1].content


def test_a_bug_in_a_members_model_is_its_failure(run: Run) -> None:  # noqa: F811
    """The leader learns the type of the error, and no text of it."""

    class Broken:
        id, provider = "broken", "own"

        async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
            raise ValueError("secret-text")

    leader = ScriptedModel([Calls(to("a")), "Done."])

    run(Team(model=leader, members=[Agent(id="a", model=Broken())]), ListJournal())

    assert "Model 'broken' failed: ValueError." in results(leader)[0]
    assert "secret-text" not in results(leader)[0]


def test_a_member_without_a_model_uses_that_of_its_team(run: Run) -> None:  # noqa: F811
    """Of the nearest team that has one."""
    own = ScriptedModel([Calls(to("leaf")), "leaf says", "inner says"])
    outer = ScriptedModel([Calls(to("inner"), to("agent")), "agent says", "Done."], delay_s=0.05)
    inner = Team(id="inner", model=own, members=[Agent(id="leaf")])

    answer = run(Team(model=outer, members=[inner, Agent(id="agent")]), ListJournal())

    assert answer.content == "Done."
    own.check_finished()
    outer.check_finished()


def test_limits_hold_for_members_that_fail(run: Run) -> None:  # noqa: F811
    """A leader that asks a broken member for ever ends at the run's limit."""
    leader = ScriptedModel([Calls(to("a")) for _ in range(60)])

    with pytest.raises(LimitReached):
        run(Team(model=leader, members=[agent("a", *[REFUSED] * 60)], limits=Limits(turns=3)), ListJournal())
