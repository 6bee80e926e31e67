"""The sessions that replays stand in: in no list, found by their id, gone with the session that they stand beside."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.support import look
from tests.support.outcomes import execute
from tests.support.replaying import accept_replay, comparison, every_row, forks, get_run, replay, run
from tests.support.valkey import ValkeyServer
from worker import Calls, ScriptedModel, SqliteDb, Team, privacy, tool
from worker.domain import SERVICE, Principal, Run, Status
from worker.events.erase import Eraser
from worker.process.runtime import Runtime
from worker.runs.queue_limits import QueueLimits
from worker.runs.retry import retry
from worker.store import Database, erasure, runs, sessions, tables

Process = Callable[..., Runtime]
USER = Principal("k", user_id="u")


@tool
def look_up() -> str:
    """Look something up."""
    return "found"


@pytest.fixture
def runtime(process: Process) -> Runtime:
    """A process with a team that looks something up for each input."""
    steps = [Calls(("look_up", {})), "an answer"] * 9
    return process(Team(id="t", model=ScriptedModel(steps), tools=[look_up], enable_session_summaries=True))


def listed(db: Database, principal: Principal, **wanted: Any) -> list[Run]:
    with db.read() as tx:
        return runs.page(tx, runs.RunFilters(**wanted), principal=principal, before=None, limit=99)


@pytest.mark.parametrize("principal", [SERVICE, USER, Principal("k", teams=frozenset({"t"}))])
def test_forks_and_their_runs_are_in_no_list_and_found_by_their_ids(runtime: Runtime, principal: Principal) -> None:
    """Of sessions, latest activity first or newest first; of runs, whatever they are limited to but the fork itself."""
    source = run(runtime, "hello")
    repeated = replay(runtime, source)
    fork = get_run(runtime.db, repeated).session_id
    db = runtime.db

    with db.read() as tx:
        active = sessions.active(tx, sessions.SessionFilters(), principal=principal, before=None, limit=99)
        newest = sessions.page(tx, principal=principal, user_id=None, team="t", before=None, limit=99)
        found = sessions.find(tx, session_id=fork, principal=principal, user_id=None)
        alone = runs.get(tx, repeated, principal=principal)

    assert [row.session_id for _, row in (*active, *newest)] == ["s", "s"]
    for wanted in ({}, {"user_id": "u"}, {"team": "t"}, {"status": Status.COMPLETED}, {"session_id": "s"}):
        assert [r.id for r in listed(db, principal, **wanted)] == [source]
    assert [r.id for r in listed(db, principal, session_id=fork)] == [repeated]
    assert [r.id for r in listed(db, principal, session_id=fork, status=Status.FAILED)] == []
    assert len(found) == 1
    assert alone is not None
    assert alone.status is Status.COMPLETED


def test_a_team_lists_its_sessions_without_forks(tmp_path: Path) -> None:
    """In Python too; a fork is got by its id."""
    team = Team(id="t", model=ScriptedModel(["old"]), db=SqliteDb(str(tmp_path / "own.db")))
    source = team.run("hello", session_id="s", user_id="u").run_id

    fork = accept_replay(team.db.runtime, source).session_id

    assert [session.session_id for session in team.get_all_sessions()] == ["s"]
    assert team.get_session(fork) is not None


def test_a_fork_goes_with_the_session_that_it_stands_beside(runtime: Runtime) -> None:
    """In one transaction, forks of forks too, and every run that may have a stream is named. Other sessions stay."""
    db = runtime.db
    source, other = run(runtime, "hello"), run(runtime, "hello", session="r")
    first = replay(runtime, source)
    second = accept_replay(runtime, first).id
    kept = replay(runtime, other)
    pk = look.row(db, source).session_pk

    with db.write() as tx:
        streaming = erasure.erase_session(tx, pk, streams_s=3600).streaming

    assert sorted(streaming) == sorted([source, first, second])
    assert sorted(row.id for row in look.rows(db)) == sorted([other, kept])
    with db.read() as tx:
        assert set(tx.execute(select(tables.messages.c.run_id)).scalars()) == {other, kept}
    assert execute(runtime, second, "t") == "Gone"


def test_a_fork_alone_can_be_deleted(runtime: Runtime) -> None:
    """The session that it stands beside is not touched."""
    source = run(runtime, "hello")
    repeated = replay(runtime, source)
    before = every_row(runtime.db, "s")

    with runtime.db.write() as tx:
        erasure.erase_session_of_run(tx, repeated)

    assert forks(runtime.db) == []
    assert every_row(runtime.db, "s") == before


@pytest.fixture
def eraser(valkey: ValkeyServer) -> Iterator[Eraser]:
    """What removes streams."""
    made = Eraser(valkey.url, prefix="test", ttl_s=60)
    yield made
    made.close()


def test_forks_are_written_out_and_erased_with_their_user(runtime: Runtime, eraser: Eraser) -> None:
    """Each row once, and counted once."""
    source = run(runtime, "hello")
    repeated = replay(runtime, source)
    fork = get_run(runtime.db, repeated).session_id

    lines = list(privacy.export(runtime.db, "u", principal=SERVICE))
    counts = privacy.erase(runtime.db, eraser, runtime.settings, "u", principal=SERVICE)

    assert [line["session_id"] for line in lines if line["type"] == "session"] == ["s", fork]
    exported = [line for line in lines if line["type"] == "run"]
    assert [(line["id"], line["replay_of"]) for line in exported] == [(source, None), (repeated, source)]
    assert sum(line["type"] == "message" and line["session_id"] == fork for line in lines) == 4
    assert counts == privacy.Erased(sessions=2, runs=2, messages=8, summaries=0, streams=2, api_keys=0)
    with runtime.db.read() as tx:
        left = [tx.execute(select(func.count()).select_from(t)).scalar_one() for t in (tables.sessions, tables.runs)]
    assert left == [0, 0]


def test_no_summary_is_made_of_a_fork(process: Process) -> None:
    """However long the replay is: nobody goes on in it."""
    steps = [*[Calls(("look_up", {}))] * 3, "an answer"] * 2
    model = ScriptedModel(steps)
    team = Team(id="t", model=model, tools=[look_up], enable_session_summaries=True)
    runtime = process(team, summary_due_messages=4)

    replay(runtime, run(runtime, "hello"))

    with runtime.db.read() as tx:
        wanted = tx.execute(select(tables.summary_jobs.c.session_pk)).scalars().all()
    assert wanted == [look.row(runtime.db, listed(runtime.db, SERVICE)[0].id).session_pk]


def test_a_failed_replay_that_is_retried_repeats_the_same_run(process: Process) -> None:
    """With its past and its recorded results, and without what the failed one wrote."""
    call = Calls(("look_up", {}))
    model = ScriptedModel(["hi", call, "old", call, call, call, "old"])
    team = Team(id="t", model=model, tools=[look_up], add_history_to_context=True)
    runtime = process(team)
    run(runtime, "hello")
    failed = replay(runtime, run(runtime, "look"))
    assert comparison(runtime.db, failed).status == "diverged"

    queue_limits = QueueLimits(runtime.db, runtime.settings)
    again = retry(runtime.db, failed, settings=runtime.settings, queue_limits=queue_limits, principal=SERVICE).run
    execute(runtime, again.id, "t")

    assert comparison(runtime.db, again.id).status == "same"
    assert [m.content for m in model.requests[-2].messages] == ["hello", "hi", "look"]
    assert (again.retry_of, again.session_id) == (failed, get_run(runtime.db, failed).session_id)
