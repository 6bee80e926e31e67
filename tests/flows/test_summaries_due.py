"""When a summary is asked for: at the threshold, with the end of the run that reaches it, and once."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import event, select, update

from tests.support.condensing import (
    NEVER,
    answer,
    begin,
    called,
    converse,
    draft,
    finish,
    jobs,
    session_row,
    write,
)
from tests.support.life import accept
from tests.support.outcomes import execute
from worker import ScriptedModel, Team
from worker.domain import Dispatch, Draft, Due, Role, SessionSummaryManager, Status
from worker.process.runtime import Runtime
from worker.runs.cancel import cancel
from worker.settings import Settings
from worker.store import Database, summaries, summary_jobs
from worker.store.columns import db_time
from worker.store.tables import runs
from worker.summaries import due

FOUR = Due(4, NEVER.size)


def completed(db: Database, text: str, limit: Due, *said: Draft) -> tuple[Dispatch, ...]:
    """A worker answers."""
    return finish(db, begin(db, text, due=limit), *said)


def failed(db: Database, text: str, limit: Due, *said: Draft) -> tuple[Dispatch, ...]:
    """A worker gives up behind what it has written."""
    claim = begin(db, text, due=limit)
    write(db, claim, *said)
    return finish(db, claim, status=Status.FAILED)


def cancelled(db: Database, text: str, limit: Due, *said: Draft) -> tuple[Dispatch, ...]:
    """The worker is gone, and another process, which knows no team, ends its run."""
    claim = begin(db, text, due=limit)
    write(db, claim, *said)
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == claim.run_id).values(lease_until=db_time(-1.0)))
    return cancel(db, claim.run_id)[1]


WAYS: list[Callable[..., tuple[Dispatch, ...]]] = [completed, failed, cancelled]


@pytest.mark.parametrize("end", WAYS)
def test_a_summary_is_due_exactly_at_its_number_of_messages(db: Database, end: Callable[..., object]) -> None:
    """With the third message it is not, with the fourth it is, however the run that brings it ends."""
    finish(db, begin(db, due=FOUR), answer())

    before = end(db, "three", FOUR)
    wanted_before = jobs(db)
    ready = end(db, "four", FOUR)

    assert (before, wanted_before) == ((), [])
    [job] = jobs(db)
    assert [(d.task, d.queue, d.ids["session_pk"]) for d in ready] == [
        ("summaries.refresh", "summaries", job.session_pk)
    ]
    assert job.through_seq == session_row(db, job.session_pk).last_seq


def test_a_run_that_nobody_ever_claimed_counts_too(db: Database) -> None:
    """As head of its session it is cancelled at once, by a process that knows no team."""
    finish(db, begin(db, due=FOUR), answer())

    ready = [cancel(db, accept(db).run.id)[1] for _ in range(3)]

    assert [len(dispatches) for dispatches in ready] == [0, 1, 0]


@pytest.mark.parametrize("end", WAYS)
@pytest.mark.parametrize("length", [59, 60])
def test_a_summary_is_due_exactly_at_its_size(db: Database, end: Callable[..., object], length: int) -> None:
    """A hundred characters of history, inputs, answers, calls and results alike, and not one less."""
    hundred = Due(NEVER.messages, 100)
    finish(db, begin(db, "x" * 10, due=hundred), *called("y" * 14), answer("z" * 10))  # the call: look({})

    ready = end(db, "i" * length, hundred, answer(""))

    assert len(jobs(db)) == len(ready) == (length == 60)


def test_members_messages_do_not_add_to_the_size(db: Database) -> None:
    """They are no part of the leader's history, and of no summary."""
    own = Draft(Role.ASSISTANT, "member", "x" * 200, delegation="d")

    ready = finish(db, begin(db, "hello", due=Due(NEVER.messages, 100)), own, answer())

    assert ready == ()


def test_the_inputs_of_runs_that_were_cancelled_in_the_queue_count(db: Database) -> None:
    """They stand in the history when the head passes them: a summary is due for their size too."""
    claim = begin(db, "head", due=Due(NEVER.messages, 100))
    for text in ("x" * 40, "y" * 60):
        cancel(db, accept(db, text).run.id)

    ready = finish(db, claim, answer(""))

    assert len(ready) == 1
    assert session_row(db, claim.session_pk).unsummarised == 104


class Killed(BaseException):
    """The process is gone."""


def test_a_process_that_dies_right_behind_its_runs_end_has_asked_for_the_summary(
    db: Database, process: Callable[..., Runtime]
) -> None:
    """It is decided in the very transaction that ends the run: there is no commit between the two to die at."""
    manager = SessionSummaryManager(due_messages=2)
    team = Team(id="t", model=ScriptedModel(["hi"]), enable_session_summaries=True, session_summary_manager=manager)
    one = process(team)
    run_id = accept(db).run.id

    @event.listens_for(one.db.engine, "commit")
    def die(_connection: object) -> None:
        with db.read() as tx:
            if tx.execute(select(runs.c.finished_at).where(runs.c.id == run_id)).scalar_one() is not None:
                raise Killed

    with suppress(Killed):
        execute(one, run_id, "t")
    event.remove(one.db.engine, "commit", die)

    assert [job.through_seq for job in jobs(db)] == [2]


def test_many_triggers_are_one_refresh(db: Database) -> None:
    """Runs that end, and whoever asks for it, find it asked for already: one row, and one bell of the runs."""
    rung = [finish(db, begin(db, due=FOUR), answer()) for _ in range(10)]
    with db.write() as tx:
        session_pk = jobs(db)[0].session_pk
        for _ in range(10):
            due.request(tx, session_pk, session_id="s", team="t")

    [job] = jobs(db)
    assert [len(ready) for ready in rung] == [0, 1] + [0] * 8
    assert job.through_seq == 20


def test_nothing_is_asked_for_where_the_summary_covers_all(db: Database) -> None:
    """Neither of a session without messages, nor of one that is gone."""
    session_pk = converse(db, 2)
    accept(db, "not begun", session="new")
    with db.write() as tx:
        base = summaries.base(tx, session_pk)
        assert base is not None
        summaries.cover(tx, session_pk, base, draft(4, 2, pieces=0))

    with db.write() as tx:
        asked = [due.request(tx, pk, session_id="s", team="t") for pk in (session_pk, session_pk + 1, 999)]

    assert asked == [(), (), ()]
    assert jobs(db) == []


def test_a_team_that_wants_no_summaries_gets_none(db: Database) -> None:
    """Also one that does not want them any more: the next run of the session says so."""
    claim = begin(db, due=FOUR)
    finish(db, claim, answer())

    ready = [finish(db, begin(db, due=None), answer()) for _ in range(5)]

    assert ready == [()] * 5
    assert jobs(db) == []


def test_a_refresh_that_failed_is_asked_for_again_one_threshold_later(db: Database) -> None:
    """Not with every run: so many messages later again, by the number of messages or by their size."""
    for name, limit, text in (("messages", FOUR, ""), ("size", Due(NEVER.messages, 80), "x" * 20)):
        rung = []
        for n in range(8):
            ready = finish(db, begin(db, text, session=name, due=limit), answer(text))
            rung.append(len(ready))
            if n == 1:
                give_up(db, int(ready[0].ids["session_pk"]))

        assert rung == [0, 1, 0, 1, 0, 0, 0, 0], name


def give_up(db: Database, session_pk: int) -> None:
    """A worker takes the refresh, and fails for good."""
    with db.write() as tx:
        job = summary_jobs.claim(tx, session_pk, team="t", owner="other", ttl_s=60)
        assert job is not None
        summary_jobs.fail(tx, job, code="model_refused", wait_s=None)


def test_a_team_names_its_threshold_or_the_settings_do() -> None:
    """In messages and in tokens, each by itself."""
    settings = Settings(summary_due_messages=7, summary_due_tokens=9)

    assert due.threshold(SessionSummaryManager(), settings) == Due(7, 36)
    assert due.threshold(SessionSummaryManager(due_messages=3), settings) == Due(3, 36)
    assert due.threshold(SessionSummaryManager(due_tokens=5), settings) == Due(7, 20)


def test_a_refresh_covers_what_became_due_while_it_was_made(db: Database) -> None:
    """The run that ends meanwhile finds it asked for, so whoever makes it goes on: none is lost between the two."""
    session_pk = converse(db, 2, due=FOUR)
    with db.write() as tx:
        job = summary_jobs.claim(tx, session_pk, team="t", owner="other", ttl_s=60)
        assert job is not None
        base = summaries.base(tx, session_pk)
        assert base is not None
    later = [finish(db, begin(db, due=FOUR), answer()) for _ in range(2)]

    with db.write() as tx:
        left = summaries.cover(tx, session_pk, base, draft(4, 2))
        assert left is not None
        summaries.add(tx, session_pk, 1, draft(4, 2), keep=9)
        done = summary_jobs.finish(tx, job, through_seq=4, due_seq=left.finished_seq, ttl_s=60)

    assert later == [(), ()]
    assert (done, left.finished_seq) == (False, 8)
    assert jobs(db)[0].through_seq == 8
