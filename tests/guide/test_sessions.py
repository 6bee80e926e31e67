"""Team sessions, as a tutorial that runs: in a script, with nothing but this library.

A run without a `session_id` stands alone. With one, it continues a conversation; with a `user_id`, the conversation is
that user's. The last test plays the same conversation on workers, over HTTP: it is one engine behind two doors.
"""

from pathlib import Path

import pytest

from tests.support.system import System
from tests.support.valkey import ValkeyServer
from worker import OpenAIChat, SessionSummaryManager, SqliteDb, Team
from worker.db import Db

pytestmark = pytest.mark.usefixtures("any_model")


def said(team: Team, session_id: str) -> list[str]:
    """What was said in a session, oldest first."""
    return [message.content for message in team.get_chat_history(session_id)]


def test_multi_user_multi_session() -> None:
    """Each user has sessions of their own, and several users can talk with one team at the same time."""
    team = Team(model=OpenAIChat(id="gpt-5-mini"), members=[])

    # User 1
    team.run("Hello", user_id="user1", session_id="session1")
    team.run("How are you?", user_id="user1", session_id="session1")

    # User 2
    team.run("Hi", user_id="user2", session_id="session2")
    team.run("What's up?", user_id="user2", session_id="session2")

    assert said(team, "session1")[::2] == ["Hello", "How are you?"]
    assert said(team, "session2")[::2] == ["Hi", "What's up?"]


def test_a_run_without_a_session_stands_alone() -> None:
    """Nothing of one call is ever seen by the next, whatever its options say."""
    team = Team(id="alone", model=OpenAIChat(id="gpt-5-mini"), members=[], add_history_to_context=True)

    team.run("Hello, I am Ada.")
    answer = team.run("What is my name?")

    assert answer.content == "You have not told me your name."
    assert len(answer.messages) == 2
    assert team.get_all_sessions() == []


def test_a_session_remembers_when_its_history_is_in_the_context() -> None:
    """The user's own history, and nobody else's."""
    team = Team(id="remembers", model=OpenAIChat(id="gpt-5-mini"), members=[], add_history_to_context=True)

    team.run("Hello, I am Ada.", user_id="user1", session_id="one")
    team.run("Hello, I am Grace.", user_id="user2", session_id="one")

    assert "Ada" in team.run("What is my name?", user_id="user1", session_id="one").content
    assert "Grace" in team.run("What is my name?", user_id="user2", session_id="one").content


def test_session_management(tmp_path: Path) -> None:
    """Sessions are retrieved, listed, updated and deleted."""
    team = Team(id="managed", model=OpenAIChat(id="gpt-5-mini"), members=[], db=SqliteDb(db_file=tmp_path / "a.db"))
    team.run("Hello", user_id="user1", session_id="session1")

    # Retrieve a session by ID
    session = team.get_session("session1")

    # List all sessions for a team
    all_sessions = team.get_all_sessions()

    assert session is not None
    assert (session.session_id, session.user_id) == ("session1", "user1")
    assert [s.session_id for s in all_sessions] == ["session1"]

    # Update its name, description, tags
    session.update(name="New Session Name", description="Updated description", tags=["seen"])

    again = team.get_session("session1")
    assert again is not None
    assert (again.name, again.description, again.tags) == ("New Session Name", "Updated description", ["seen"])

    # You can delete a session by its ID
    team.delete_session("session1")

    assert team.get_session("session1") is None
    assert team.delete_session("session1") is False


def test_a_session_outlives_the_script(tmp_path: Path) -> None:
    """With a database of its own, whoever comes later finds the conversation."""
    file = tmp_path / "agno.db"
    Team(model=OpenAIChat(id="m"), db=SqliteDb(db_file=file)).run("Hello, I am Ada.", session_id="s")

    later = Team(model=OpenAIChat(id="m"), db=SqliteDb(db_file=file), add_history_to_context=True)

    assert "Ada" in later.run("What is my name?", session_id="s").content


def test_a_summary_manager_is_part_of_the_definition(tmp_path: Path) -> None:
    """With which model and prompt summaries are made."""
    # Setup your database
    db = SqliteDb(db_file=tmp_path / "agno.db")

    # Setup your Session Summary Manager, to adjust how summaries are created
    session_summary_manager = SessionSummaryManager(
        model=OpenAIChat(id="gpt-5-mini"),
        session_summary_prompt="Create a very succinct summary of the following conversation:",
    )

    team = Team(
        members=[],
        db=db,
        session_summary_manager=session_summary_manager,
        enable_session_summaries=True,
    )

    assert team.run("Hello", session_id="s").content
    assert team.session_summary_manager.session_summary_prompt.startswith("Create a very succinct")


@pytest.mark.default_on("postgres")
def test_the_same_conversation_on_workers(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> None:
    """The other door: a service enqueues the runs over HTTP, a worker executes them."""
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url)
    system.start_worker()
    client = system.start_api()

    for user, session, text in [
        ("user1", "session1", "Hello, I am Ada."),
        ("user2", "session2", "Hi, I am Grace."),
        ("user1", "session1", "How are you? What is my name?"),
        ("user2", "session2", "What's up? What is my name?"),
    ]:
        run = client.enqueue("remembers", text, user_id=user, session_id=session)
        answer = client.run(run["id"], wait_s=30)

        assert answer["status"] == "completed"
        if "my name?" in text:
            assert ("Ada" in answer["output"]) == (user == "user1")
            assert ("Grace" in answer["output"]) == (user == "user2")

    assert len(list(client.messages("session1", user_id="user1"))) == 4

    # The sessions that workers made are managed from a script on the same database.
    team = Team(id="remembers", db=Db(database_url))
    session = team.get_session("session1")
    assert session is not None
    assert {s.session_id for s in team.get_all_sessions()} == {"session1", "session2"}
    assert session.update(name="New Session Name", description="Updated description").name == "New Session Name"
    assert team.delete_session("session1")
    assert team.get_session("session1") is None

    # A team with a summary manager is served like any other.
    condensed = client.enqueue("condensed", "Hello", user_id="user1", session_id="session3")
    assert client.run(condensed["id"], wait_s=30)["status"] == "completed"
    team.db.close()
    system.close()
