"""The queries of the doctor cost the same however large the database is."""

import pytest

from tests.support.crowd import crowd
from tests.support.plans import plan, statements
from worker.store import Database, stuck


@pytest.mark.parametrize("question", [stuck.waiting_runs, stuck.queued_by_team, stuck.unattended])
def test_no_question_reads_all_runs_or_sessions(db: Database, question: object) -> None:
    """Each query reads a bounded number of rows, by an index."""
    crowd(db)
    with statements(db) as seen, db.read() as tx:
        question(tx)

    steps = [step for statement, parameters in seen.items() for step in plan(db, statement, parameters)]

    scans = ("SCAN runs", "SCAN sessions", "SCAN before", "Seq Scan on runs", "Seq Scan on sessions")
    assert steps
    assert [step for step in steps if any(scan in step and "INDEX" not in step for scan in scans)] == []
