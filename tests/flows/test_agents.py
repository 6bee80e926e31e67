"""An agent alone: it runs, keeps sessions and is served as a team without members."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from worker import Agent, Calls, ScriptedModel
from worker.db import Db
from worker.errors import NoLastSession, RunFailed, RunNotFound, SessionNotFound
from worker.settings import load
from worker.team_module import load_teams


def test_an_agent_runs_and_keeps_sessions(database_url: str) -> None:
    """In sync and async code, with history, state, and all that a session offers."""
    db = Db(database_url)
    model = ScriptedModel(["hello", "again", "later"])
    agent = Agent(id="a", model=model, add_history_to_context=True, session_state={"n": 1}, db=db)

    first = agent.run("hi", session_id="s", user_id="u")
    second = asyncio.run(agent.arun("more", session_id="s", user_id="u"))  # type: ignore[arg-type]  # it is a coroutine

    assert (first.content, second.content) == ("hello", "again")
    assert [m.content for m in model.requests[1].messages] == ["hi", "hello", "more"]
    assert agent.get_session_state() == {"n": 1}
    assert [m.content for m in agent.get_chat_history(last_n_runs=1)] == ["more", "again"]
    assert agent.enqueue("later", session_id="s", user_id="u").status == "queued"
    db.close()


def test_an_agent_of_the_teams_module_is_served_unless_it_is_a_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its id; a team that is a member too is served, as it was."""
    name = f"served_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "from worker import Agent, Team\n"
        "alone, member = Agent(id='alone'), Agent(id='member')\n"
        "inner = Team(id='inner', members=[member])\n"
        "outer = Team(id='outer', members=[inner])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TEAM_SESSIONS_TEAMS", name)

    assert set(load_teams(load())) == {"alone", "inner", "outer"}


def test_the_results_of_runs_are_found_again(database_url: str) -> None:
    """The last one without its id; what is missing or has failed says so."""
    db = Db(database_url)
    agent = Agent(id="a", model=ScriptedModel([Calls(("look", {})), "seen", "again"]), tools=[look], db=db)
    with pytest.raises(NoLastSession):
        agent.get_last_run_output()

    first = agent.run("go", session_id="s", user_id="u")
    second = agent.run("more", session_id="s", user_id="u")
    queued = agent.enqueue("queued", session_id="s", user_id="u")

    assert agent.get_run_output(first.run_id) == first
    assert agent.get_last_run_output() == second
    assert (first.status, first.input, first.metrics) == ("completed", "go", first.usage)
    assert [(call.tool_name, call.result) for call in first.tools] == [("look", "seen")]
    with pytest.raises(RunNotFound):
        agent.get_run_output("run_0")
    with pytest.raises(RunFailed, match="is queued: it has not ended yet"):
        agent.get_run_output(queued.run_id)
    assert agent.cancel_run(queued.run_id).status == "cancelled"
    db.close()


def look() -> str:
    """Look."""
    return "seen"


def test_names_and_usage_of_sessions(database_url: str) -> None:
    """What one session's runs have used together; its name; its messages by role and number."""
    db = Db(database_url)
    agent = Agent(id="a", model=ScriptedModel([Calls(("look", {})), "seen", "again"]), tools=[look], db=db)
    for text in ("go", "more"):
        agent.run(text, session_id="s", user_id="u")

    agent.set_session_name("s", session_name="Parcels")

    assert agent.get_session_name() == "Parcels"
    assert agent.get_session_metrics("s").model_calls == 3
    assert [m.role for m in agent.get_session_messages("s", skip_roles=["tool"])] == [
        *["user", "assistant"],
        *["assistant", "user", "assistant"],
    ]
    assert [m.content for m in agent.get_session_messages("s", limit=2)] == ["more", "again"]
    assert [m.content for m in agent.get_session_messages("s", last_n_runs=1)] == ["more", "again"]
    with pytest.raises(SessionNotFound):
        agent.get_session_metrics("nowhere")
    db.close()


def test_results_belong_to_the_calls_of_their_own_reply() -> None:
    """Some servers give the calls of each reply the same ids."""

    def say(word: str) -> str:
        """Say a word."""
        return word

    steps = [Calls(("say", {"word": "one"})), Calls(("say", {"word": "two"})), "done"]
    output = Agent(id="repeats", model=ScriptedModel(steps), tools=[say]).run("go")
    ids = [tuple(replace(call, id="c") for call in m.tool_calls) for m in output.messages]
    same = [
        replace(m, tool_call_id="c" if m.role == "tool" else None, tool_calls=calls)
        for m, calls in zip(output.messages, ids, strict=True)
    ]

    assert [call.result for call in replace(output, messages=same).tools] == ["one", "two"]
