"""Rebuilds of summaries that are interrupted: what they have is neither lost, nor mixed, nor in anybody's way."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from tests.support.condensing import (
    NEVER,
    HeldModel,
    bells,
    covered,
    formed,
    jobs,
    long_history,
    on_thread,
    time_passes,
    versions,
)
from tests.support.outcomes import refresh
from tests.support.rebuilding import all_of, request_rebuild, sent_messages, slowly, summarised
from worker import ScriptedModel
from worker.domain import SummaryDraft
from worker.errors import ModelRefused, ModelUnavailable
from worker.process.runtime import Runtime
from worker.store import Database, erasure, summary_jobs
from worker.store.tables import summary_jobs as jobs_table
from worker.summaries.condense import prompt_hash

Start = Callable[..., Runtime]
REFUSED = ModelRefused(model="m", reason="test")


class Killed(BaseException):
    """The process is gone."""


def interrupted(db: Database, process: Start, *, runs: int, by: BaseException) -> int:
    """Have a rebuild that has two pieces, and whose process ends in the third."""
    session_pk = summarised(db, process, runs=runs)
    request_rebuild(db, session_pk)
    model = HeldModel("scripted", answers=[formed("piece 0"), formed("piece 1"), by])
    if isinstance(by, Killed):
        with pytest.raises(Killed):
            refresh(slowly(process, model), session_pk, "t")
    else:
        refresh(slowly(process, model), session_pk, "t")
    assert sent_messages(*model.requests) == all_of(3)
    assert [(job.rebuild, job.draft["text"], job.draft["covers_seq"]) for job in jobs(db)] == [(True, "piece 1", 4)]
    return session_pk


@pytest.mark.parametrize("end", [Killed(), ModelUnavailable(model="m", reason="test")], ids=["killed", "unavailable"])
def test_what_a_rebuild_has_is_not_paid_twice(db: Database, process: Start, end: BaseException) -> None:
    """Another process goes on with the draft: only the piece in flight is asked for again."""
    session_pk = interrupted(db, process, runs=4, by=end)
    kept = (covered(db, session_pk), [v.text for v in versions(db, session_pk)])
    other = ScriptedModel([formed("piece 2"), formed("piece 3")])

    time_passes(db)
    rung = bells(db, "t")
    outcome = refresh(slowly(process, other), session_pk, "t")

    assert (kept, rung, outcome) == ((8, ["old"]), [session_pk], "1 new")
    assert sent_messages(*other.requests) == all_of(4)[4:]
    assert other.requests[0].messages[1].content.startswith("The summary so far:\n<summary>\npiece 1\n</summary>\n\n")
    _, new = versions(db, session_pk)
    assert (new.text, new.model_calls, jobs(db)) == ("piece 3", 4, [])


@pytest.mark.parametrize(("prompt", "model_id"), [("newest prompt", "scripted"), ("new prompt", "other")])
def test_a_rebuild_whose_prompt_or_model_has_changed_begins_anew(
    db: Database, process: Start, prompt: str, model_id: str
) -> None:
    """A deploy in the middle: a version is of one prompt and one model."""
    session_pk = interrupted(db, process, runs=3, by=Killed())
    model = HeldModel(model_id, answers=[formed(f"again {n}") for n in range(3)])

    time_passes(db)
    outcome = refresh(slowly(process, model, prompt), session_pk, "t")

    assert (outcome, sent_messages(*model.requests)) == ("1 new", all_of(3))
    _, new = versions(db, session_pk)
    assert (new.model, new.prompt_hash, new.model_calls) == (model_id, prompt_hash(prompt), 3)


def test_a_process_that_has_lost_a_rebuild_writes_nothing_to_it(db: Database, process: Start) -> None:
    """Neither to the draft of whoever goes on, nor a version."""
    session_pk = summarised(db, process, runs=2)
    request_rebuild(db, session_pk)
    stale, other = HeldModel(), HeldModel()
    first = on_thread(lambda: refresh(slowly(process, stale), session_pk, "t"))
    stale.wait_until_called()
    time_passes(db)
    second = on_thread(lambda: refresh(slowly(process, other), session_pk, "t"))
    other.wait_until_called()
    other.answers.append(formed("other 0"))
    other.wait_until_called()

    stale.answers.append(formed("stale 0"))
    outcome = first.result(20)
    [kept] = [job.draft["text"] for job in jobs(db)]
    other.answers.append(formed("other 1"))

    assert (outcome, kept, second.result(20)) == ("overtaken", "other 0", "1 new")
    assert [v.text for v in versions(db, session_pk)] == ["old", "other 1"]


def test_a_session_that_is_deleted_during_a_rebuild_leaves_nothing(db: Database, process: Start) -> None:
    """Its draft is gone with it, and the answer to the piece in flight is not kept."""
    session_pk = summarised(db, process, runs=3)
    request_rebuild(db, session_pk)
    door = HeldModel(answers=[formed("one")])
    first = on_thread(lambda: refresh(slowly(process, door), session_pk, "t"))
    door.wait_until_called()
    door.wait_until_called()

    with db.write() as tx:
        erasure.erase_session(tx, session_pk)
    door.answers.append(formed("too late"))

    assert first.result(20) == "overtaken"
    assert (jobs(db), versions(db, session_pk), bells(db, "t")) == ([], [], [])


def test_a_rebuild_that_failed_goes_on_when_it_is_asked_for_again(db: Database, process: Start) -> None:
    """Behind the pieces that it has."""
    session_pk = interrupted(db, process, runs=3, by=REFUSED)
    gone_by = bells(db, "t")
    model = ScriptedModel([formed("piece 2")])

    request_rebuild(db, session_pk)
    outcome = refresh(slowly(process, model), session_pk, "t")

    assert (gone_by, outcome, sent_messages(*model.requests)) == ([], "1 new", all_of(3)[4:])


def test_a_rebuild_that_failed_does_not_hold_up_a_refresh_that_is_due(db: Database, process: Start) -> None:
    """It is given up for a refresh of what lies behind the summary, as soon as that is due."""
    session_pk = interrupted(db, process, runs=3, by=REFUSED)
    model = ScriptedModel([formed("next")])

    long_history(db, pieces=1, begin_at=3)
    wanted = [(job.rebuild, job.draft, job.through_seq, job.failures) for job in jobs(db)]
    outcome = refresh(slowly(process, model), session_pk, "t")

    assert wanted == [(False, None, 8, 0)]
    assert (outcome, sent_messages(*model.requests)) == ("1 new", ["input 3", "answer 3"])
    assert [v.text for v in versions(db, session_pk)] == ["old", "next"]


def test_a_draft_is_read_as_it_was_kept(db: Database) -> None:
    """And a job that somebody else has taken keeps none."""
    session_pk = long_history(db, pieces=1, due=NEVER)
    request_rebuild(db, session_pk)
    draft = SummaryDraft("m", "h", 3, "text", ["topic"], 4, 5, 6, 7)
    with db.write() as tx:
        job = summary_jobs.claim(tx, session_pk, team="t", owner="one", ttl_s=-1)
        assert job is not None
        kept = summary_jobs.save_draft(tx, job, draft, ttl_s=-1)
        requested = summary_jobs.requested(tx, job)
        other = summary_jobs.claim(tx, session_pk, team="t", owner="other", ttl_s=60)
        lost = (summary_jobs.save_draft(tx, job, draft, ttl_s=60), summary_jobs.requested(tx, job))
        stored = tx.execute(select(jobs_table.c.rebuild, jobs_table.c.fence)).one()

    assert other is not None
    assert (kept, requested) == (True, summary_jobs.RefreshRequest(2, True, draft))
    assert (lost, tuple(stored)) == ((False, None), (True, 2))
