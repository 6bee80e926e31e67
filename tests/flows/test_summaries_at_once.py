"""Several processes at one summary, and many summaries in one process: one writes, few work, and the rest waits."""

from collections.abc import Callable
from dataclasses import replace

from redis import Redis
from sqlalchemy import update

from tests.flows.test_summaries import TWO, ask_for, condensed_messages, on_thread, team
from tests.support.condensing import (
    HeldModel,
    answer,
    begin,
    called,
    converse,
    covered,
    draft,
    finish,
    formed,
    jobs,
    session_row,
    time_passes,
    versions,
    write,
)
from tests.support.outcomes import refresh
from tests.support.valkey import ValkeyServer
from worker import ScriptedModel
from worker.domain import Draft, Role, Status
from worker.errors import ModelRefused
from worker.process.runtime import Runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.store import Database, messages, summaries
from worker.store.tables import runs
from worker.summaries.refresh import feed

Start = Callable[..., Runtime]


def test_a_stalled_refresh_stores_nothing_after_another_took_it_over(db: Database, process: Start) -> None:
    """It wakes up with an answer, before and after the other one has stored its own: both times refused."""
    for name in ("before", "after"):
        stalled, other = HeldModel(), HeldModel()
        session_pk = converse(db, 2, session=name, due=TWO)
        first = on_thread(lambda pk=session_pk, door=stalled: refresh(process(team(door)), pk, "t"))
        stalled.wait_until_called()
        time_passes(db)
        second = on_thread(lambda pk=session_pk, door=other: refresh(process(team(door)), pk, "t"))
        other.wait_until_called()

        if name == "before":
            stalled.answers.append(formed("stalled"))
            outcome = first.result(20)
        other.answers.append(formed("other"))
        stored = second.result(20)
        if name == "after":
            stalled.answers.append(formed("stalled"))
            outcome = first.result(20)

        assert (outcome, stored) == ("overtaken", "1 new")
        assert [(v.version, v.text) for v in versions(db, session_pk)] == [(1, "other")]
        assert covered(db, session_pk) == 4


def test_a_stalled_refresh_does_not_touch_the_next_one_of_its_session(db: Database, process: Start) -> None:
    """The one that it was told to make was made by another; it wakes up and fails while a third makes the next."""
    stalled, third = HeldModel(), HeldModel()
    session_pk = converse(db, 1, due=TWO)
    first = on_thread(lambda: refresh(process(team(stalled)), session_pk, "t"))
    stalled.wait_until_called()
    time_passes(db)
    refresh(process(team(HeldModel(answers=[formed("one")]))), session_pk, "t")
    converse(db, 1, due=TWO)
    last = on_thread(lambda: refresh(process(team(third)), session_pk, "t"))
    third.wait_until_called()
    [before] = jobs(db)

    stalled.answers.append(ModelRefused(model="m", reason="test"))
    first.result(20)
    [after] = jobs(db)
    third.answers.append(formed("two"))
    outcome = last.result(20)

    assert after == before
    assert outcome == "1 new"
    assert [v.text for v in versions(db, session_pk)] == ["one", "two"]


def test_a_version_is_stored_by_compare_and_set(db: Database) -> None:
    """Where the summary is not the one that it was built from any more, nothing moves, whoever holds the job."""
    session_pk = converse(db, 3)
    with db.write() as tx:
        base = summaries.base(tx, session_pk)
        assert base is not None
        first = summaries.cover(tx, session_pk, base, draft(4, 2))
        again = summaries.cover(tx, session_pk, base, draft(2, 1))
        empty = summaries.cover(tx, session_pk, base, draft(6, 3, pieces=0))

    assert first is not None
    assert (again, empty) == (None, None)
    row = session_row(db, session_pk)
    assert (row.summary_version, row.covers_through_seq, row.summary_position) == (1, 4, 2)


def test_a_process_makes_as_many_summaries_at_once_as_it_has_slots(db: Database, process: Start) -> None:
    """A delivery without a slot is dropped, and its job left to whoever has one."""
    door = HeldModel()
    one = process(team(door), summary_slots=2)
    pks = [converse(db, 1, session=f"s{n}", due=TWO) for n in range(5)]
    running = [on_thread(lambda pk=pk: refresh(one, pk, "t")) for pk in pks[:2]]
    for _ in running:
        door.wait_until_called()

    dropped = [refresh(one, pk, "t") for pk in pks[2:]]

    assert dropped == ["no free slot"] * 3
    assert [job.lease_owner for job in jobs(db)] == [one.owner, one.owner, None, None, None]
    assert len(door.requests) == 2
    door.answers += [formed("x")] * 3
    assert [future.result(20) for future in running] == ["1 new"] * 2
    assert refresh(one, pks[2], "t") == "1 new"


def test_a_free_slot_rings_for_what_has_waited_longest(db: Database, process: Start, valkey: ValkeyServer) -> None:
    """For as many as it can take, each once; a process that is full, or on its way out, rings for none."""
    one = process(team(HeldModel()), summary_slots=2, redis_url=valkey.url)
    one = replace(one, dispatcher=Dispatcher(make_app(one.settings)))
    for n in range(5):
        converse(db, 1, session=f"s{n}", due=TWO)
    rung = []

    def ring() -> None:
        feed(one)
        with Redis.from_url(valkey.url) as redis:
            rung.append(redis.llen("summaries"))

    ring()
    time_passes(db)
    for _ in range(4):
        ring()
    time_passes(db)
    one.summary_slots.acquire()
    ring()
    one.summary_slots.acquire()
    ring()
    one.summary_slots.release()
    one.keeper.hand_over(grace_s=600)
    ring()

    assert rung == [0, 2, 4, 5, 5, 6, 6, 6]


def roll_back(db: Database, *said: Draft, session: str = "s") -> None:
    """A run is rolled back while it is the head: cancelled, and left out of later contexts and summaries."""
    claim = begin(db, "rolled back", session=session)
    write(db, claim, *said)
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == claim.run_id).values(excluded=True))
    finish(db, claim, status=Status.CANCELLED)


def test_what_was_rolled_back_is_in_no_summary(db: Database, process: Start) -> None:
    """Nor are members' messages; where nothing else is behind it, the summary covers them without a model."""
    model = ScriptedModel([formed("one")])
    one = process(team(model))
    session_pk = converse(db, 1)
    roll_back(db, *called("rolled back"), answer("rolled back"))
    finish(db, begin(db, "input 9"), Draft(Role.ASSISTANT, "m", "of a member", delegation="d"), answer("answer 9"))
    ask_for(db, session_pk)
    refresh(one, session_pk, "t")
    roll_back(db, answer("rolled back"))
    ask_for(db, session_pk)

    outcome = refresh(one, session_pk, "t")

    assert outcome == "nothing to condense"
    assert condensed_messages(model.requests[0]) == ["input 0", "answer 0", "input 9", "answer 9"]
    assert "rolled back" not in model.requests[0].messages[1].content
    assert "of a member" not in model.requests[0].messages[1].content
    row = session_row(db, session_pk)
    assert (row.summary_version, row.covers_through_seq, jobs(db)) == (1, row.last_seq, [])


def test_the_size_behind_a_summary_does_not_drift(db: Database, process: Start) -> None:
    """However much was rolled back: what a summary covers is not counted as behind it, or each run would be due."""
    one = process(team(ScriptedModel([formed("x")] * 3)))
    session_pk = converse(db, 1)
    roll_back(db, answer("x" * 10_000))
    ask_for(db, session_pk)
    refresh(one, session_pk, "t")
    behind = [session_row(db, session_pk).unsummarised]
    claim = begin(db, "i" * 10)
    write(db, claim, answer("a" * 20))
    ask_for(db, session_pk)
    refresh(one, session_pk, "t")

    behind.append(session_row(db, session_pk).unsummarised)
    finish(db, claim, answer("b" * 30))
    behind.append(session_row(db, session_pk).unsummarised)
    ask_for(db, session_pk)
    refresh(one, session_pk, "t")
    behind.append(session_row(db, session_pk).unsummarised)

    assert behind == [0, 30, 60, 0]


def test_what_one_piece_reads_is_bounded(db: Database, process: Start) -> None:
    """A history of megabytes is read as far as a prompt can use it, and counted in full."""
    session_pk = converse(db, 1)
    for _ in range(4):
        finish(db, begin(db, "x" * 1_000_000), *called("r" * 1_000_000), answer("y" * 1_000_000))

    with db.read() as tx:
        read = messages.to_condense(tx, session_pk=session_pk, after_seq=0, through_seq=99, limit=400, cut=4_001)

    assert max(len(part.message.content) for part in read) == 4_001
    assert sum(part.size for part in read) == session_row(db, session_pk).unsummarised
