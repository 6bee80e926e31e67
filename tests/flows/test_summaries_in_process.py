"""Summaries in a script, with and without workers: the library's door."""

import threading
from collections.abc import Iterator

import pytest

from tests.support.condensing import HeldModel, formed, jobs
from tests.support.system import wait_until
from worker import ScriptedModel, SessionSummaryManager, Team
from worker.db import Db
from worker.domain import ChatModel
from worker.errors import ModelRefused, ModelUnavailable, SummaryFailed
from worker.store import Database, summary_jobs, teams


@pytest.fixture
def script(database_url: str) -> Iterator[Db]:
    """A database as a script opens it."""
    opened = Db(database_url)
    yield opened
    opened.close()


def condensed(
    script: Db, model: ChatModel, *, answers: int = 10, due_messages: int = 4, add_history: bool = False
) -> Team:
    """A team whose summary is due after two runs."""
    manager = SessionSummaryManager(model=model, due_messages=due_messages)
    says = ScriptedModel([f"answer {n}" for n in range(answers)])
    options = {"enable_session_summaries": True, "add_history_to_context": add_history}
    return Team(id="t", model=says, session_summary_manager=manager, db=script, **options)


def test_a_script_gets_its_summaries_without_workers(script: Db) -> None:
    """Beside the runs: the second makes one due, and the fourth; each later run reads whatever is there."""
    model = ScriptedModel([formed("Ada likes tea.", "tea"), formed("Ada likes tea and milk.")])
    team = condensed(script, model)

    for n in range(2):
        team.run(f"input {n}", session_id="s")
    wait_until(lambda: team.get_session_summary("s"), description="the first summary is there")
    for n in range(2, 4):
        team.run(f"input {n}", session_id="s")
    summary = wait_until(
        lambda: (found := team.get_session_summary("s")) and found.version == 2 and found,
        description="the second summary is there",
    )

    assert (summary.text, summary.covers_through_seq, summary.behind) == ("Ada likes tea and milk.", 8, 0)
    first = team.get_session_summary("s", version=1)
    assert first is not None
    assert (first.text, first.topics, first.covers_through_seq) == ("Ada likes tea.", ["tea"], 4)
    assert isinstance(team.definition.model, ScriptedModel)
    third = [m.content for m in team.definition.model.requests[2].messages]
    assert third[1].endswith("(its messages 1 to 4):\n<session_summary>\nAda likes tea.\n</session_summary>\n\ninput 2")
    assert len(third) == 2
    assert "Ada" not in third[0]
    model.check_finished()


def test_a_run_in_a_script_does_not_wait_for_a_summary(script: Db) -> None:
    """The model of the summary says nothing; the runs go on, with the history in its place."""
    door = HeldModel()
    team = condensed(script, door, add_history=True)

    for n in range(5):
        assert team.run(f"input {n}", session_id="s").content == f"answer {n}"
    door.wait_until_called()

    assert team.get_session_summary("s") is None
    assert len(door.requests) == 1
    assert isinstance(team.definition.model, ScriptedModel)
    assert len(team.definition.model.requests[4].messages) == 9
    door.answers += [formed("x")] * 2
    wait_until(lambda: not jobs(script.runtime.db), description="the refresh goes on to what became due meanwhile")


def test_a_script_that_ends_waits_for_its_summaries(database_url: str) -> None:
    """As a worker does at SIGTERM: what was asked of the model is stored."""
    first, second = Db(database_url), Db(database_url)
    door = HeldModel()
    team = condensed(first, door)
    for n in range(2):
        team.run(f"input {n}", session_id="s")
    door.wait_until_called()
    threading.Timer(0.2, lambda: door.answers.append(formed("in time"))).start()

    first.close()
    summary = condensed(second, door).get_session_summary("s")

    assert summary is not None
    assert summary.text == "in time"
    second.close()


def test_more_sessions_than_slots_get_their_summaries(script: Db) -> None:
    """They wait for a slot in turn, each on its own thread: in a script nobody would ring again."""
    door, sessions = HeldModel(), [f"s{n}" for n in range(20)]
    team = condensed(script, door, answers=20, due_messages=2)

    for session_id in sessions:
        team.run("input", session_id=session_id)
    for _ in range(8):
        door.wait_until_called()
    asked_at_once = len(door.requests)
    door.answers += [formed("x")] * 20

    wait_until(lambda: not jobs(script.runtime.db), description="every session has its summary")
    assert asked_at_once == 8
    assert all(team.get_session_summary(session_id) for session_id in sessions)


def test_a_script_that_ends_leaves_what_waits_for_a_slot(script: Db, database_url: str) -> None:
    """To the next who comes: nothing is begun any more, and nothing is marked as failed."""
    door = HeldModel()
    team = condensed(script, door, answers=10, due_messages=2)
    for n in range(10):
        team.run("input", session_id=f"s{n}")
    for _ in range(8):
        door.wait_until_called()
    threading.Timer(0.2, lambda: door.answers.extend([formed("x")] * 10)).start()

    script.close()
    database = Database(database_url)
    left = jobs(database)
    database.close()

    assert len(door.requests) == 8
    assert [(job.failures, job.lease_owner, job.send_at is None) for job in left] == [(0, None, False)] * 2


def test_every_thread_of_a_script_is_waited_for() -> None:
    """However many begin theirs at the same moment; those that are done are forgotten."""
    script, count = Db("sqlite://"), 20
    rooms = script.runtime
    go, end = threading.Barrier(count), threading.Event()

    def begin() -> None:
        go.wait()
        for _ in range(20):
            rooms.in_background(end.wait)

    beginners = [threading.Thread(target=begin) for _ in range(count)]
    for beginner in beginners:
        beginner.start()
    for beginner in beginners:
        beginner.join()
    waited_for = len(rooms.threads)
    end.set()
    script.close()

    assert waited_for == 20 * count
    assert rooms.threads == []


def test_a_summary_can_be_asked_for_at_once(script: Db) -> None:
    """Due or not; again with nothing new it stays as it is; of a session without a finished run there is none."""
    team = condensed(script, ScriptedModel([formed("one"), formed("two")]))
    team.run("input 0", session_id="s")
    session = team.get_session("s")
    assert session is not None

    made = [session.refresh_summary() for _ in range(2)]
    team.run("input 1", session_id="s")
    made.append(session.refresh_summary())

    assert [(m.version, m.text, m.covers_through_seq) for m in made if m] == [
        (1, "one", 2),
        (1, "one", 2),
        (2, "two", 4),
    ]


def test_a_summary_can_be_made_anew(script: Db) -> None:
    """From the first message, whatever it covers; of a session without a finished run there is none."""
    model = ScriptedModel([formed("one"), formed("two")])
    team = condensed(script, model)
    team.run("input 0", session_id="s")
    session = team.get_session("s")
    assert session is not None
    session.refresh_summary()

    made = session.refresh_summary(rebuild=True)

    assert made is not None
    assert (made.version, made.text, made.covers_through_seq) == (2, "two", 2)
    first, second = (request.messages[1].content for request in model.requests)
    assert first == second


def test_a_summary_that_fails_says_so_and_keeps_what_it_covered(script: Db) -> None:
    """Asked for again, it is made: at once, whatever it would have waited for."""
    faults = [ModelUnavailable(model="m", reason="test"), ModelRefused(model="m", reason="test")]
    team = condensed(script, ScriptedModel([formed("one"), *faults, formed("two")]))
    team.run("input 0", session_id="s")
    session = team.get_session("s")
    assert session is not None
    session.refresh_summary()
    team.run("input 1", session_id="s")

    for code in ("model_unavailable", "model_refused"):
        with pytest.raises(SummaryFailed, match=code):
            session.refresh_summary()
        kept = session.get_session_summary()
        assert kept is not None
        assert (kept.text, kept.behind) == ("one", 2)

    again = session.refresh_summary()
    assert again is not None
    assert (again.text, again.behind) == ("two", 0)


def test_a_script_leaves_its_summaries_to_a_worker_that_makes_them(script: Db, database_url: str) -> None:
    """One that serves the team on the queue `summaries`; others do not count."""
    model = ScriptedModel([])
    team = condensed(script, model)
    database = Database(database_url)
    with database.write() as tx:
        teams.announce(tx, worker="w", versions={"t": "1"}, queues=["summaries"])

    for n in range(2):
        team.run(f"input {n}", session_id="s")

    with database.read() as tx:
        [job] = jobs(database)
        standing = summary_jobs.state(tx, job.session_pk)
    assert standing is not None
    assert (standing.status, model.requests) == ("waiting", [])
    database.close()


def test_a_script_waits_for_the_worker_that_is_at_its_summary(script: Db, database_url: str) -> None:
    """It does not make it a second time."""
    door = HeldModel()
    team = condensed(script, door, due_messages=100)
    team.run("input 0", session_id="s")
    session = team.get_session("s")
    assert session is not None
    with script.runtime.db.write() as tx:
        summary_jobs.request_now(tx, session.pk, through_seq=2)
        job = summary_jobs.claim(tx, session.pk, team="t", owner="other", ttl_s=60)
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(session.refresh_summary()))

    waiting.start()
    assert not door.calls.acquire(timeout=0.3)
    assert job is not None
    with script.runtime.db.write() as tx:
        summary_jobs.give_back(tx, job)
    door.answers.append(formed("x"))
    waiting.join(20)

    assert len(door.requests) == 1
    assert found == [team.get_session_summary("s")]


def test_a_deleted_session_has_no_summary(script: Db) -> None:
    """Deleted while it is made: the one who waits for it gets none."""
    door = HeldModel()
    team = condensed(script, door)
    team.run("input 0", session_id="s")
    session = team.get_session("s")
    assert session is not None
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(session.refresh_summary()))
    waiting.start()
    door.wait_until_called()

    team.delete_session("s")
    door.answers.append(formed("x"))
    waiting.join(20)

    assert found == [None]
