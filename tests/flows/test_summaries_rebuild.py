"""How a summary is rebuilt from the first message: as one version, which no reader sees before it covers enough."""

from collections.abc import Callable

from sqlalchemy import select, update

from tests.support.condensing import (
    NEVER,
    TWO,
    HeldModel,
    begin,
    covered,
    finish,
    formed,
    jobs,
    long_history,
    on_thread,
    session_row,
    versions,
)
from tests.support.outcomes import refresh
from tests.support.rebuilding import all_of, request_rebuild, sent_messages, slowly, summarised
from worker import ScriptedModel
from worker.process.runtime import Runtime
from worker.store import Database
from worker.store.tables import runs
from worker.summaries import due
from worker.summaries.condense import prompt_hash

Start = Callable[..., Runtime]


def test_a_rebuild_is_one_version_whatever_the_number_of_its_pieces(db: Database, process: Start) -> None:
    """It is made from the first message by the new prompt and model, and says what all its pieces used.

    Until then the version that was there stays the current one, and a summary is never behind where it was.
    """
    session_pk = summarised(db, process, runs=4)
    before = session_row(db, session_pk)
    door = HeldModel("new model")
    rung = request_rebuild(db, session_pk)
    first = on_thread(lambda: refresh(slowly(process, door), session_pk, "t"))
    seen = []
    for n in range(4):
        door.wait_until_called()
        seen.append((covered(db, session_pk), [v.text for v in versions(db, session_pk)]))
        door.answers.append(formed(f"new {n}", f"topic {n}"))

    outcome = first.result(20)

    assert (rung, outcome, jobs(db)) == (1, "1 new", [])
    assert seen == [(8, ["old"])] * 4
    assert sent_messages(*door.requests) == all_of(4)
    assert "so far" not in door.requests[0].messages[1].content
    assert door.requests[3].messages[1].content.startswith("The summary so far:\n<summary>\nnew 2\n</summary>\n\n")
    _, new = versions(db, session_pk)
    assert (new.version, new.text, new.topics, new.covers_through_seq) == (2, "new 3", ["topic 3"], 8)
    assert (new.model, new.prompt_hash, new.model_calls) == ("new model", prompt_hash("new prompt"), 4)
    assert (new.input_tokens, new.output_tokens) == (4, 4)
    after = session_row(db, session_pk)
    assert (
        (after.covers_through_seq, after.summary_position)
        == (before.covers_through_seq, before.summary_position)
        == (8, 4)
    )
    assert after.unsummarised == before.unsummarised == 0


def test_what_a_rebuild_covers_in_addition_is_not_unsummarised_any_more(db: Database, process: Start) -> None:
    """And that alone: neither what was covered before, nor what has come while it was made."""
    session_pk = summarised(db, process, runs=2)
    long_history(db, pieces=1, begin_at=2, due=NEVER)
    request_rebuild(db, session_pk)
    door = HeldModel(answers=[formed("one"), formed("two")])
    first = on_thread(lambda: refresh(slowly(process, door), session_pk, "t"))
    for _ in range(3):
        door.wait_until_called()
    unfinished = begin(db, "z" * 7)
    before = session_row(db, session_pk).unsummarised

    door.answers.append(formed("three"))
    outcome = first.result(20)

    run = len(f"input 2 {'x' * 200}") + len(f"answer 2 {'y' * 100}")
    assert (before, outcome) == (run + 7, "1 new")
    assert (session_row(db, session_pk).unsummarised, covered(db, session_pk)) == (7, 6)
    finish(db, unfinished)


def test_a_session_without_a_summary_gets_its_first_one(db: Database, process: Start) -> None:
    """In one version, and not in one for each piece."""
    session_pk = long_history(db, pieces=3, due=NEVER)
    request_rebuild(db, session_pk)

    outcome = refresh(slowly(process, ScriptedModel([formed(str(n)) for n in range(3)])), session_pk, "t")

    assert (outcome, [(v.version, v.text) for v in versions(db, session_pk)]) == ("1 new", [(1, "2")])
    assert (covered(db, session_pk), session_row(db, session_pk).unsummarised) == (6, 0)


def test_nothing_is_made_anew_where_nothing_is_finished(db: Database) -> None:
    """Neither of a session whose first run goes on, nor of one that is gone."""
    session_pk = begin(db).session_pk

    assert (request_rebuild(db, session_pk), request_rebuild(db, session_pk + 1), jobs(db)) == (0, 0, [])


def test_a_history_that_was_rolled_back_makes_no_version(db: Database, process: Start) -> None:
    """There is nothing to say of it: no model is asked."""
    session_pk = long_history(db, pieces=1, due=NEVER)
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.session_pk == session_pk).values(excluded=True))
    request_rebuild(db, session_pk)

    outcome = refresh(slowly(process, ScriptedModel([])), session_pk, "t")

    assert (outcome, versions(db, session_pk), jobs(db)) == ("nothing to condense", [], [])
    assert covered(db, session_pk) == 2


def test_what_was_rolled_back_is_left_out(db: Database, process: Start) -> None:
    """Between others, and at the end."""
    session_pk = long_history(db, pieces=4, due=NEVER)
    with db.write() as tx:
        bad = select(runs.c.id).where(runs.c.session_pk == session_pk, runs.c.position.in_([2, 4]))
        tx.execute(update(runs).where(runs.c.id.in_(bad)).values(excluded=True))
    request_rebuild(db, session_pk)
    model = ScriptedModel([formed("one"), formed("two")])

    outcome = refresh(slowly(process, model), session_pk, "t")

    assert sent_messages(*model.requests) == ["input 0", "answer 0", "input 2", "answer 2"]
    assert (outcome, covered(db, session_pk), session_row(db, session_pk).unsummarised) == ("1 new", 8, 0)


def test_any_number_of_triggers_are_one_rebuild(db: Database, process: Start) -> None:
    """One that is wanted already, because it was due or asked for, becomes one; a later trigger takes nothing back."""
    session_pk = summarised(db, process, runs=2, limit=TWO)
    long_history(db, pieces=1, begin_at=2)
    wanted = [(job.rebuild, job.through_seq) for job in jobs(db)]
    for _ in range(3):
        request_rebuild(db, session_pk)
    with db.write() as tx:
        due.request(tx, session_pk, session_id="s", team="t")
    long_history(db, pieces=1, begin_at=3)
    becomes = [(job.rebuild, job.through_seq) for job in jobs(db)]
    model = ScriptedModel([formed(str(n)) for n in range(4)])

    outcome = refresh(slowly(process, model), session_pk, "t")

    assert (wanted, becomes) == ([(False, 6)], [(True, 6)])
    assert sent_messages(*model.requests) == all_of(4)
    assert outcome == "2 new", "the rebuild, and what became due behind it"
    assert [(v.version, v.text, v.covers_through_seq) for v in versions(db, session_pk)][1:] == [
        (2, "2", 6),
        (3, "3", 8),
    ]
    assert jobs(db) == []


def test_a_refresh_under_way_becomes_a_rebuild(db: Database, process: Start) -> None:
    """Its piece is stored, as a version; then the history is told from its beginning."""
    session_pk = summarised(db, process, runs=2)
    long_history(db, pieces=1, begin_at=2, due=NEVER)
    with db.write() as tx:
        due.request(tx, session_pk, session_id="s", team="t")
    door = HeldModel()
    first = on_thread(lambda: refresh(slowly(process, door), session_pk, "t"))
    door.wait_until_called()

    rung = request_rebuild(db, session_pk)
    door.answers += [formed(str(n)) for n in range(4)]
    outcome = first.result(20)

    assert (rung, outcome, jobs(db)) == (1, "2 new", [])
    assert sent_messages(*door.requests) == ["input 2", "answer 2", *all_of(3)]
    assert [(v.text, v.covers_through_seq) for v in versions(db, session_pk)] == [("old", 4), ("0", 6), ("3", 6)]


def test_a_rebuild_under_way_that_is_asked_for_again_goes_on(db: Database, process: Start) -> None:
    """It covers what had been finished by then too, and no piece is made twice."""
    session_pk = summarised(db, process, runs=2)
    request_rebuild(db, session_pk)
    door = HeldModel()
    first = on_thread(lambda: refresh(slowly(process, door), session_pk, "t"))
    door.wait_until_called()
    long_history(db, pieces=1, begin_at=2, due=NEVER)

    request_rebuild(db, session_pk)
    door.answers += [formed(str(n)) for n in range(3)]
    outcome = first.result(20)

    assert (outcome, jobs(db)) == ("1 new", [])
    assert sent_messages(*door.requests) == all_of(3)
    assert [(v.text, v.covers_through_seq) for v in versions(db, session_pk)] == [("old", 4), ("2", 6)]
