"""Sessions whose first runs have gone: they go on as if everything were there, but for what has gone."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select

from tests.support.ageing import age, age_run, announce, check_whole, remove, runs_left, talk
from tests.support.condensing import TWO, converse, cover, formed, jobs, session_row, team, versions
from tests.support.outcomes import execute, refresh
from tests.support.replaying import replay, run
from tests.support.system import wait_until
from tests.support.valkey import ValkeyServer
from worker import Retention, ScriptedModel, Team
from worker.domain import SERVICE, Event
from worker.errors import DefinitionInvalid
from worker.events import stream_key
from worker.events.erase import Eraser
from worker.events.publish import Publisher, RunStream
from worker.privacy import export
from worker.process.runtime import Runtime
from worker.retention import Removal
from worker.runs.intake import accept_order
from worker.settings import Settings
from worker.store import Database, erasure, sessions
from worker.store.tables import runs
from worker.summaries import due

Start = Callable[..., Runtime]
RUNS = {"keep_runs_days": 30}


def asked(model: ScriptedModel) -> list[str]:
    """Return what the last call was sent, but for what the team itself says."""
    return [message.content for message in model.requests[-1].messages]


def test_a_session_goes_on_behind_what_has_gone(process: Start) -> None:
    """Places are counted on, the context holds the last runs that are there, and all that there is, is written out."""
    model = ScriptedModel(["one", "two", "three", "four"])
    rooms = process(Team(id="t", model=model, add_history_to_context=True, num_history_runs=3))
    made = [run(rooms, text) for text in ("first", "second", "third")]
    pk = age(rooms.db, days=1)
    for run_id in made[:2]:
        age_run(rooms.db, run_id, days=40)

    assert remove(rooms.db, **RUNS).runs == 2
    run(rooms, "fourth")

    assert asked(model) == ["third", "three", "fourth"]
    with rooms.db.read() as tx:
        places = tx.execute(select(runs.c.position, runs.c.first_seq, runs.c.last_seq).order_by(runs.c.position)).all()
    assert [tuple(place) for place in places] == [(3, 5, 6), (4, 7, 8)]
    row = session_row(rooms.db, pk)
    assert (row.run_count, row.last_seq, row.head_run_id) == (4, 8, None)
    lines = list(export(rooms.db, "u", principal=SERVICE))
    assert [line["seq"] for line in lines if line["type"] == "message"] == [5, 6, 7, 8]
    check_whole(rooms.db)


def test_a_session_of_which_every_run_has_gone_begins_anew_where_it_was(process: Start) -> None:
    """With its state, at the next position; it is no new session."""
    model = ScriptedModel(["one", "two"])
    said: dict[str, Any] = {"session_state": {"n": 1}, "add_session_state_to_context": True}
    rooms = process(Team(id="t", model=model, add_history_to_context=True, **said))
    run(rooms, "first")
    pk = age(rooms.db, days=40)
    remove(rooms.db, **RUNS)

    last = run(rooms, "second")

    assert runs_left(rooms.db, pk) == [last]
    assert "first" not in str(asked(model))
    assert session_row(rooms.db, pk).state == {"n": 1}


def test_the_summary_tells_what_has_gone_and_no_message_is_missing_behind_it(process: Start) -> None:
    """To the next run, and to a replay of a later one, which sees the summary of then."""
    model = ScriptedModel(["one", "two", "three", "four", "three", "five"])
    rooms = process(Team(id="t", model=model, enable_session_summaries=True, add_history_to_context=True))
    made = [run(rooms, text) for text in ("first", "second")]
    pk = age(rooms.db, days=40)
    cover(rooms.db, pk, seq=2, position=1, text="the first was said")
    made += [run(rooms, text) for text in ("third", "fourth")]

    assert remove(rooms.db, **RUNS).runs == 1
    replay(rooms, made[2])
    sent = asked(model)
    run(rooms, "fifth")

    assert "the first was said" in sent[1]
    assert sent[1].endswith("second")
    assert sent[2:] == ["two", "third"]
    assert "the first was said" in asked(model)[1]
    assert asked(model)[1].endswith("second")
    assert asked(model)[2:] == ["two", "third", "three", "fourth", "four", "fifth"]


def test_a_summary_that_is_made_anew_keeps_what_has_gone(db: Database, process: Start) -> None:
    """It begins with the text of the current one: nobody else knows any more what was said."""
    pk = converse(db, 3, due=TWO)
    model = ScriptedModel([formed("all three"), formed("anew")])
    rooms = process(team(model))
    refresh(rooms, pk, "t")
    age(db, days=1)
    with db.read() as tx:
        first = tx.execute(select(runs.c.id).where(runs.c.position == 1)).scalar_one()
    age_run(db, first, days=40)
    assert remove(db, **RUNS).runs == 1

    with db.write() as tx:
        due.request(tx, pk, session_id="s", team="t", rebuild=True)
    assert refresh(rooms, pk, "t") == "1 new"

    told = model.requests[-1].messages[1].content
    assert told.startswith("The summary so far:\n<summary>\nall three\n</summary>\n\n")
    assert ("input 0" in told, "input 1" in told, "input 2" in told) == (False, True, True)
    assert ([v.text for v in versions(db, pk)], jobs(db)) == (["all three", "anew"], [])


def test_old_versions_of_a_summary_are_kept_as_far_as_the_team_says(db: Database, process: Start) -> None:
    """Whatever the settings say."""
    kept = Team(
        id="t",
        retention=Retention(summary_versions=2),
        enable_session_summaries=True,
        model=ScriptedModel([formed(str(n)) for n in range(1, 6)]),
    )
    one = process(kept, summary_versions=4)
    for _ in range(5):
        session_pk = converse(db, 1, due=TWO)
        refresh(one, session_pk, "t")

    assert [v.version for v in versions(db, session_pk)] == [4, 5]


def test_an_order_from_the_broker_whose_run_has_gone_is_refused_and_not_recorded(db: Database, process: Start) -> None:
    """However often it is sent again; one that was refused before likewise."""
    rooms = process(Team(id="t", model=ScriptedModel(["one"])))
    announce(db, Retention())
    sent = {"team": "t", "input": "hello", "session_id": "s", "user_id": "u"}
    refused = {"team": "unknown", "input": "hello", "user_id": "u"}
    run_id = accept_order(rooms, sent, key="k").removeprefix("accepted: ")
    execute(rooms, run_id, "t")
    assert accept_order(rooms, refused, key="refused") == "refused: unknown_team"
    for session in all_sessions(db):
        age(db, session=session, days=40)
    assert remove(db, keep_sessions_days=30).sessions == 2

    answers = [accept_order(rooms, sent, key="k"), accept_order(rooms, refused, key="refused")]

    assert answers == ["refused: run_gone"] * 2
    assert all_sessions(db) == []


def all_sessions(db: Database) -> list[str]:
    """Return the ids of all sessions."""
    with db.read() as tx:
        return list(tx.execute(select(sessions.sessions.c.session_id)).scalars())


def test_streams_are_kept_as_long_as_the_team_says(valkey: ValkeyServer) -> None:
    """Else as the settings say."""
    publisher = Publisher(valkey.url, prefix="", ttl_s=3_600)
    for run_id, ttl_s in (("short", 20), ("default", None), ("long", 90_000)):
        RunStream(publisher, run_id, 1, ttl_s=ttl_s).end(Event("run.completed", {}))

    with Redis.from_url(valkey.url) as redis:

        def kept() -> list[int]:
            return [redis.ttl(stream_key("", run_id)) for run_id in ("short", "default", "long")]

        wait_until(lambda: min(kept()) > 0, description="the events have come")
        assert [round(seconds, -1) for seconds in kept()] == [20, 3_600, 90_000]
    publisher.close()


@pytest.mark.parametrize("way", ["deleted", "over"])
def test_streams_that_a_team_keeps_for_long_are_erased_too(db: Database, valkey: ValkeyServer, way: str) -> None:
    """Of a run that ended longer ago than streams of other teams are kept."""
    announce(db, Retention(stream_seconds=60 * 86_400, sessions_days=math.inf))
    run_id = talk(db)[0]
    pk = age(db, days=40)
    publisher = Publisher(valkey.url, prefix="", ttl_s=3_600)
    RunStream(publisher, run_id, 1, ttl_s=60 * 86_400).end(Event("message.completed", {"content": "secret"}))
    eraser = Eraser(valkey.url, prefix="", ttl_s=3_600)
    with Redis.from_url(valkey.url, decode_responses=True) as redis:
        wait_until(lambda: redis.exists(stream_key("", run_id)), description="the event has come")

        if way == "deleted":
            with db.write() as tx:
                eraser.erase(erasure.erase_session(tx, pk, streams_s=3_600).streaming)
        else:
            list(Removal(db, Settings(keep_runs_days=30), erase=eraser.erase).round())

        assert "secret" not in str(redis.xrange(stream_key("", run_id)))
    eraser.close()
    publisher.close()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"sessions_days": 0}, "retention.sessions_days is 0; expected more than 0"),
        ({"runs_days": -1}, "retention.runs_days is -1; expected more than 0"),
        ({"runs_days": math.nan}, "retention.runs_days is nan; expected more than 0"),
        ({"stream_seconds": 5}, "retention.stream_seconds is 5; expected 10 or more"),
        ({"summary_versions": 0}, "retention.summary_versions is 0; expected 1 or more"),
    ],
)
def test_a_lifetime_that_cannot_be_meant_is_refused(said: dict[str, Any], problem: str) -> None:
    """Nothing is removed by a slip of the pen."""
    with pytest.raises(DefinitionInvalid, match=problem):
        Team(id="t", retention=Retention(**said))


def test_lifetimes_decide_no_answer() -> None:
    """A team's version is the same with others."""
    assert Team(id="t").definition.version == Team(id="t", retention=Retention(runs_days=1)).definition.version
