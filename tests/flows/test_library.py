"""`team.run()` in a script, on a database that others use too."""

import pytest

from worker import Calls, ScriptedModel, Team, tool
from worker.db import Db
from worker.errors import EmptyInput, ModelRefused, RunFailed, SessionNotFound, SessionOfOtherTeam


def test_a_queued_run_that_nobody_serves_is_executed_first(database_url: str) -> None:
    """The order of the session is kept, though there is no worker."""
    team = Team(id="t", model=ScriptedModel(["to the first", "to the second"]), db=Db(database_url))
    first = team.enqueue("first", session_id="s")

    second = team.run("second", session_id="s")

    assert second.content == "to the second"
    assert first.wait(timeout=0).output == "to the first"
    assert [m.content for m in team.get_chat_history("s")] == ["first", "to the first", "second", "to the second"]
    team.db.close()


def test_a_session_belongs_to_one_team(database_url: str) -> None:
    """Another team is refused, and does not see it; nothing is written."""
    db = Db(database_url)
    owner, other = (Team(id=name, model=ScriptedModel(["mine"]), db=db) for name in ("owner", "other"))
    owner.run("hello", session_id="s")

    with pytest.raises(SessionOfOtherTeam, match="belongs to another team than 'other'"):
        other.run("hello", session_id="s")

    assert other.get_session("s") is None
    assert other.delete_session("s") is False
    with pytest.raises(SessionNotFound):
        other.get_chat_history("s")
    assert len(owner.get_messages_for_session("s")) == 2
    db.close()


def test_a_run_that_fails_says_why_and_keeps_its_input(database_url: str) -> None:
    """The error names the run; the session goes on."""
    model = ScriptedModel([ModelRefused(model="m", reason="no"), "again"])
    team = Team(id="t", model=model, db=Db(database_url))

    with pytest.raises(RunFailed, match="refused the request"):
        team.run("hello", session_id="s")
    with pytest.raises(EmptyInput):
        team.run(" ", session_id="s")
    answer = team.run("once more", session_id="s")

    assert answer.content == "again"
    assert [m.content for m in team.get_messages_for_session("s")] == ["hello", "once more", "again"]
    team.db.close()


def test_the_chat_leaves_out_what_only_calls_tools(database_url: str) -> None:
    """User and assistant, oldest first; the calls stand in `get_tool_calls`."""

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    team = Team(id="t", model=ScriptedModel([Calls(("look", {})), "done"]), tools=[look], db=Db(database_url))

    team.run("go", session_id="s", user_id="u")

    assert [m.content for m in team.get_chat_history("s", user_id="u")] == ["go", "done"]
    assert [call.name for call in team.get_tool_calls("s")] == ["look"]
    assert [m.role for m in team.get_messages_for_session("s")] == ["user", "assistant", "tool", "assistant"]
    team.db.close()


def test_a_stream_tells_the_run_as_it_happens(database_url: str) -> None:
    """The same events as on workers; the joined deltas are the answer."""
    team = Team(id="t", model=ScriptedModel(["one two three"]), db=Db(database_url))

    events = list(team.run("count", session_id="s", stream=True))

    assert (events[0].type, events[1].type, events[-1].type) == ("run.queued", "run.started", "run.completed")
    assert "".join(e.data["delta"] for e in events if e.type == "message.delta") == "one two three"
    team.db.close()


def test_a_script_finds_the_error_of_its_own_model_behind_a_failed_run(database_url: str) -> None:
    """The run's error says nothing of it, because others can read that; `__cause__` is for the author of the model."""

    class Broken:
        id = "broken"

        async def reply(self, request: object, on_delta: object) -> object:
            raise TypeError("my own mistake")

    team = Team(id="t", model=Broken(), db=Db(database_url))  # type: ignore[arg-type]  # its types are looser

    with pytest.raises(RunFailed, match="An unexpected error occurred") as raised:
        team.run("hello", session_id="s")

    assert isinstance(raised.value.__cause__, TypeError)
    assert "mistake" not in str(raised.value)
    team.db.close()
