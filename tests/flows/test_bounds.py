"""What is stored with a run or a session is bounded at every door; what is larger already keeps working."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.outcomes import execute
from worker import Calls, Limits, RunContext, ScriptedModel, Team, tool
from worker.db import Db
from worker.domain import SERVICE, ChatRequest, Reply, RunOrder, ToolCall, Usage, bounds
from worker.errors import DefinitionInvalid, ValueTooLarge
from worker.process.runtime import Runtime
from worker.runs import intake
from worker.runs.enqueue import enqueue
from worker.store import RunFilters, runs, teams
from worker.store.tables import sessions

Process = Callable[..., Runtime]
BIG = {"a": "ä" * (bounds.METADATA_BYTES // 2)}  # two bytes each, and the rest of the JSON


@tool
def put(key: str, size: int, context: RunContext) -> str:
    """Put a text of a size into the state."""
    context.session_state[key] = "x" * size
    return "put"


@tool
def drop(key: str, context: RunContext) -> str:
    """Drop a key of the state."""
    del context.session_state[key]
    return "dropped"


@tool
def answer(size: int) -> str:
    """Answer with a text of a size."""
    return "y" * size


def scripted(*calls: Calls) -> ScriptedModel:
    """A model that makes these calls, one after another, and then answers."""
    return ScriptedModel([*calls, "done"])


def test_the_library_refuses_what_is_too_large(database_url: str) -> None:
    """A sentence says how large it is and what the limit is; nothing is written."""
    team = Team(id="t", model=ScriptedModel(["ok", "ok"]), db=Db(database_url))
    team.run("hello", session_id="s", metadata={"a": "x" * (bounds.METADATA_BYTES - 8)})  # all of it
    session = team.get_session("s")
    assert session is not None
    refused: list[Callable[[], Any]] = [
        lambda: team.run("hello", session_id="s", metadata=BIG),
        lambda: session.update(metadata=BIG),
        lambda: session.update("n" * 256),
        lambda: session.update(description="d" * 4_097),
        lambda: session.update(tags=["t"] * 101),
        lambda: session.update(tags=["t" * 256]),
        lambda: team.update_session_state("s", {"a": "x" * bounds.STATE_BYTES}),
    ]

    for call in refused:
        with pytest.raises(ValueTooLarge, match="the limit is"):
            call()

    whole = session.update("n" * 255, "d" * 4_096, ["t" * 255] * 100, metadata={"a": 1})
    assert (len(whole.runs), whole.state, len(whole.tags)) == (1, {}, 100)


def test_a_team_cannot_begin_with_a_state_that_is_too_large() -> None:
    """It is one of the mistakes of its definition."""
    with pytest.raises(DefinitionInvalid, match="session_state has"):
        Team(id="t", session_state={"a": "x" * bounds.STATE_BYTES})


def test_a_tool_that_stores_too_much_is_told_and_the_run_goes_on(database_url: str) -> None:
    """The change is left out, the result says why, and the next call stores what fits. Two at once share the limit."""
    half = bounds.STATE_BYTES * 6 // 10
    model = scripted(
        Calls(("put", {"key": "a", "size": bounds.STATE_BYTES})),
        Calls(("put", {"key": "b", "size": half}), ("put", {"key": "c", "size": half})),
    )
    team = Team(id="t", model=model, tools=[put], db=Db(database_url))

    output = team.run("go", session_id="s")

    results = [m.content for m in output.messages if m.role == "tool"]
    assert results[0].startswith("Error: the call was made, but its change of session_state was not stored.")
    assert "the limit is 1,048,576" in results[0]
    assert sorted(text[:3] for text in results[1:]) == ["Err", "put"]
    assert len(team.get_session_state("s")) == 1
    assert output.content == "done"


def test_a_state_that_is_too_large_already_can_be_read_and_made_smaller(database_url: str) -> None:
    """It is of an earlier release: nothing is added to it until it fits."""
    model = ScriptedModel(
        [
            "hello",
            Calls(("put", {"key": "more", "size": 10})),
            Calls(("drop", {"key": "old"})),
            Calls(("put", {"key": "more", "size": 10})),
            "done",
        ]
    )
    team = Team(id="t", model=model, tools=[put, drop], db=Db(database_url))
    team.run("hello", session_id="s")
    with team.db.runtime.db.write() as tx:
        tx.execute(update(sessions).values(state={"old": "x" * (bounds.STATE_BYTES + 9), "kept": 1}))

    results = [m.content[:5] for m in team.run("go", session_id="s").messages if m.role == "tool"]

    assert results == ["Error", "dropp", "put"]
    assert team.get_session_state("s") == {"kept": 1, "more": "x" * 10}


def test_the_results_of_a_run_are_bounded_in_their_rows(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One result has its limit, and all of a run share one, but for the least that each gets. A sentence says so."""
    monkeypatch.setattr(bounds, "RESULT_LENGTH", 1_000)
    monkeypatch.setattr(bounds, "RESULTS_LENGTH", 2_500)
    monkeypatch.setattr(bounds, "LEAST_RESULT_LENGTH", 100)
    sizes = [1_000, 1_001, 2_000, 100, 5_000]
    team = Team(
        id="t", model=scripted(*(Calls(("answer", {"size": n})) for n in sizes)), tools=[answer], db=Db(database_url)
    )

    results = [m.content for m in team.run("go").messages if m.role == "tool"]

    assert [text.count("y") for text in results] == [1_000, 1_000, 422, 100, 100]
    assert results[1].endswith("(Cut here: this result has 1,001 characters, and the first 1,000 are stored.)")
    assert len(results[0]) == 1_000


class Expensive:
    """A model that counts more tokens with each call than a column can hold after a few."""

    id = "m"

    def __init__(self) -> None:
        self.calls = 0

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Call a tool, and then answer."""
        self.calls += 1
        calls = (ToolCall("", "answer", '{"size": 1}'),) if self.calls < 30 else ()
        return Reply("ok", calls, Usage(1, 10**12, 2**63, 10**30))


def test_the_sum_of_any_usage_can_be_stored(database_url: str) -> None:
    """A run is not failed by what its model counts."""
    team = Team(id="t", model=Expensive(), tools=[answer], limits=Limits(turns=99), db=Db(database_url))

    usage = team.run("go").usage

    assert usage == Usage(30, 2**31 - 1, 2**31 - 1, 2**31 - 1)


def test_an_order_that_is_too_large_is_a_failed_run(process: Process) -> None:
    """It is found under its key, with the reason. So is one with more arguments than there are."""
    runtime = process(Team(id="plain"))
    with runtime.db.write() as tx:
        teams.announce(tx, worker="w", versions={"plain": "1"}, queues=["runs"])
    order = {"team": "plain", "input": "hello"}
    many = order | {f"field{n}": n for n in range(100_000)}
    long = {"team": "plain", "input": ["ä"] * 10, "user_id": "u"}

    said = [
        intake.accept_order(runtime, fields, key=f"k{n}")
        for n, fields in enumerate(({**order, "metadata": BIG}, many, long, {**order, "x" * 5_000: 1}))
    ]

    assert said == ["refused: value_too_large", *["refused: order_invalid"] * 3]
    with runtime.db.read() as tx:
        found = runs.page(tx, RunFilters(), principal=SERVICE, before=None, limit=9)
    assert [run.status for run in found] == ["failed"] * 4
    assert all(len(run.error.message) < 500 for run in found if run.error)
    assert [run.input for run in found] == ["hello", "(list)", "hello", "hello"]


def test_a_run_with_large_metadata_can_be_repeated(process: Process) -> None:
    """What was accepted by an earlier release is not refused later."""
    runtime = process(Team(id="t", model=ScriptedModel(["ok"])))
    order = RunOrder("t", "hello", session_id="s", metadata=BIG)

    run_id = enqueue(runtime.db, order, settings=runtime.settings).run.id

    assert execute(runtime, run_id, "t") == "completed"
