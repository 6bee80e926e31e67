"""Sessions of a team in a script: the last one needs no id, each gives its runs, and `update` changes and clears."""

from collections.abc import Iterator

import pytest

from worker import Calls, ScriptedModel, Team, tool
from worker.db import Db
from worker.errors import ModelRefused, NoLastSession, RunFailed, SessionNotFound


@tool
def look() -> str:
    """Look."""
    return "seen"


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    db = Db(database_url)
    yield db
    db.close()


def team(db: Db | None, *steps: object, id: str = "t") -> Team:
    return Team(id=id, model=ScriptedModel(steps), tools=[look], db=db)  # type: ignore[arg-type]  # steps of a script


def test_without_an_id_the_last_session_is_read(db: Db) -> None:
    """Of this very object, with its user; an id and another user still name another one."""
    support = team(db, "for u", Calls(("look", {})), Calls(("look", {})), "for v")
    other = team(db, "elsewhere", id="other")
    support.run("hello", user_id="u", session_id="s")
    support.run("look", user_id="v", session_id="s")
    other.run("hi", session_id="o")

    session = support.get_session()

    assert session is not None
    assert (session.session_id, session.user_id) == ("s", "v")
    assert [m.content for m in support.get_chat_history()] == ["look", "for v"]
    assert [m.role for m in support.get_messages_for_session()] == ["user", *["assistant", "tool"] * 2, "assistant"]
    assert [call.id for call in support.get_tool_call_history()] == [c.id for c in support.get_tool_calls()][::-1]
    assert support.get_session_state() == {}
    assert support.get_session_summary() is None
    assert [m.content for m in support.get_chat_history(user_id="u")] == ["hello", "for u"]
    assert [m.content for m in support.get_chat_history("s", user_id="u")] == ["hello", "for u"]
    assert [m.content for m in other.get_chat_history()] == ["hi", "elsewhere"]


def test_a_stream_and_a_failed_run_count_as_well(db: Db) -> None:
    """The session was used as soon as the run was accepted."""
    support = team(db, "one", ModelRefused(model="m", reason="no"))

    list(support.run("stream", session_id="a", stream=True))
    streamed = support.get_chat_history()
    with pytest.raises(RunFailed):
        support.run("fails", session_id="b")

    assert [m.content for m in streamed] == ["stream", "one"]
    assert [m.content for m in support.get_chat_history()] == ["fails"]


def test_without_a_last_session_a_sentence_says_what_to_do(db: Db) -> None:
    """It never ran one, it was deleted, or it was only for one run."""
    support, alone = team(db, "one"), team(None, "one")

    with pytest.raises(NoLastSession, match="Name a session_id"):
        support.get_chat_history()
    assert support.get_session() is None
    support.run("hello", session_id="s")
    support.delete_session("s")
    with pytest.raises(NoLastSession):
        support.get_messages_for_session()
    alone.run("hello")
    with pytest.raises(NoLastSession):
        alone.get_chat_history()
    with pytest.raises(SessionNotFound):
        support.get_chat_history("s")


def test_a_session_gives_its_runs(db: Db) -> None:
    """In order, whole and as they are now; the last ones with a limit."""
    support = team(db, "one", "two", ModelRefused(model="m", reason="no"))
    support.run("1", session_id="s", metadata={"a": 1})
    support.run("elsewhere", session_id="t")
    with pytest.raises(RunFailed):
        support.run("2", session_id="s")

    session = support.get_session("s")

    assert session is not None
    assert [(run.input, run.status, run.output) for run in session.runs] == [
        ("1", "completed", "one"),
        ("2", "failed", None),
    ]
    assert session.runs[0].metadata == {"a": 1}
    assert [run.input for run in session.get_runs(limit=1)] == ["2"]
    assert len(session.get_runs(limit=9)) == 2
    with pytest.raises(ValueError, match="limit is 0"):
        session.get_runs(limit=0)


def test_update_takes_its_three_in_order_and_clears_each(db: Db) -> None:
    """What is not named stays, None clears, an empty text is a text."""
    support = team(db, "one")
    support.run("hello", session_id="s")
    session = support.get_session()
    assert session is not None

    session.update("name", "description", ["a", "b"], metadata={"k": 1})
    assert (session.name, session.description, session.tags) == ("name", "description", ["a", "b"])
    session.update(description=None)
    assert (session.name, session.description, session.tags, session.metadata) == ("name", None, ["a", "b"], {"k": 1})
    session.update(None, "again", None, metadata=None)

    again = support.get_session()
    assert again is not None
    for one in (session, again):
        assert (one.name, one.description, one.tags, one.metadata) == (None, "again", [], {})
    assert session.update("").name == ""
    assert session.update(tags=[]).tags == []
