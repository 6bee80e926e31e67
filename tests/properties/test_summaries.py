"""Promise 7 under random schedules, and proof that the schedules would notice if it were broken."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import select

from tests.properties.attempts import control
from tests.properties.found import found_by
from tests.properties.summary_checks import KEPT
from tests.properties.summary_machine import Summaries
from worker import settings as configuration
from worker.domain import SummaryDraft
from worker.process.runtime import Runtime, start_in_process
from worker.store import Database, RefreshRequest, messages, summaries, summary_jobs
from worker.store.summaries import Base, Current
from worker.store.tables import sessions
from worker.store.tables import summary_jobs as jobs
from worker.summaries import condense, draft

Mutant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def processes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Runtime]]:
    """Three processes' worth of rooms, with small pieces. Leases never end by themselves, and bells are lost."""
    for name, value in {"LEASE_SECONDS": 3600, "SUMMARY_PIECE_TOKENS": 100, "SUMMARY_VERSIONS": KEPT}.items():
        monkeypatch.setenv(f"TEAM_SESSIONS_{name}", str(value))
    started = [start_in_process(configuration.load(), Database(database_url), None) for _ in range(3)]
    for process in started:
        process.keeper.close()
        control(process.db.engine)
    yield started
    for process in started:
        process.close()


def play(db: Database, processes: list[Runtime], *, examples: int, only: str = "", steps: int = 30) -> None:
    """Run the machine on these processes."""
    rules: Any = type("SummariesHere", (Summaries,), {"db": db, "processes": processes, "only": only})
    run_state_machine_as_test(
        rules,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],  # what fails is shown as it was found: threads do not shrink well
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=bool(only),  # a mutant is found as quickly each time
            report_multiple_bugs=False,
        ),
    )


def test_summaries_hold_under_random_schedules(db: Database, processes: list[Runtime]) -> None:
    """Each message in one piece, nothing of an unfinished run, no gap in a context, no zombie, nothing stuck.

    A rebuild is one version of one prompt, and covers no less than the one that it replaces.
    """
    play(db, processes, examples=25)


def fence_off(patch: pytest.MonkeyPatch) -> None:
    """Whoever has had a job writes to it."""
    patch.setattr(summary_jobs, "_mine", lambda job: jobs.c.session_pk == job.session_pk)


def compare_and_set_off(patch: pytest.MonkeyPatch) -> None:
    """Nothing is compared: neither the job's fence nor the summary. An answer becomes the next version of whatever is.

    Both are off, since either refuses what the other would let through.
    """
    fence_off(patch)
    cover, add = summaries.cover, summaries.add

    def version(tx: Any, session_pk: int) -> Any:
        now = select(sessions.c.summary_version, sessions.c.covers_through_seq).where(sessions.c.pk == session_pk)
        return tx.execute(now).one_or_none()

    def cover_anyway(tx: Any, session_pk: int, on: Any, draft: Any) -> Any:
        now = version(tx, session_pk)
        on = on if now is None else replace(on, version=now.summary_version, covers_through_seq=now.covers_through_seq)
        return cover(tx, session_pk, on, draft)

    def add_next(tx: Any, session_pk: int, _version: int, draft: Any, *, keep: int) -> None:
        add(tx, session_pk, version(tx, session_pk).summary_version, draft, keep=keep)

    patch.setattr(summaries, "cover", cover_anyway)
    patch.setattr(summaries, "add", add_next)


def unfinished_runs_included(patch: pytest.MonkeyPatch) -> None:
    """A summary takes whatever is in the history."""
    patch.setattr(summaries, "_finished", sessions.c.last_seq)


def context_begins_at_the_last_runs(patch: pytest.MonkeyPatch) -> None:
    """And not behind the summary."""
    first_of_last, end = messages.first_of_last, 1_000_000

    def of_all(tx: Any, *, session_pk: int, summary: Any, **wanted: Any) -> int:
        return first_of_last(tx, session_pk=session_pk, summary=Current("", end, end), **wanted)

    patch.setattr(messages, "first_of_last", of_all)


def piece_cut_by_its_size_alone(patch: pytest.MonkeyPatch) -> None:
    """In the middle of a call and its results, if it comes so."""

    def piece(said: Any, *, size: int) -> int:
        used, count = 0, 0
        while count < len(said) and (not count or used <= size):
            used += len(said[count].content)
            count += 1
        return count

    patch.setattr(condense, "piece", piece)


def part_of_a_rebuild_stored(patch: pytest.MonkeyPatch) -> None:
    """Each piece of it makes a version."""
    patch.setattr(draft, "is_version", lambda so_far, base, wanted: True)


def draft_of_another_prompt_taken_on(patch: pytest.MonkeyPatch) -> None:
    """Whatever it was made by."""
    begin = draft.begin

    def begin_with_any(base: Base, request: RefreshRequest, *, model: str, prompt_hash: str) -> SummaryDraft:
        saved = request.draft if request.rebuild else None
        return saved or begin(base, request, model=model, prompt_hash=prompt_hash)

    patch.setattr(draft, "begin", begin_with_any)


def rebuild_not_merged(patch: pytest.MonkeyPatch) -> None:
    """A refresh that is wanted already does not become one."""
    want_now = summary_jobs.request_now

    def want(tx: Any, session_pk: int, *, through_seq: int, rebuild: bool = False) -> None:
        wanted = summary_jobs.state(tx, session_pk)
        want_now(tx, session_pk, through_seq=through_seq, rebuild=rebuild and wanted is None)

    patch.setattr(summary_jobs, "request_now", want)


MUTANTS: dict[Mutant, tuple[str, int]] = {  # which promise falls, and in schedules of how many steps
    fence_off: ("zombie:", 30),
    compare_and_set_off: ("once:", 60),
    unfinished_runs_included: ("unfinished:", 30),
    context_begins_at_the_last_runs: ("gap:", 30),
    piece_cut_by_its_size_alone: ("torn:", 30),
    part_of_a_rebuild_stored: ("less:", 30),
    draft_of_another_prompt_taken_on: ("mixed:", 60),
    rebuild_not_merged: ("lost:", 30),
}


@pytest.mark.extended
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
def test_the_machine_finds_a_broken_promise(
    mutant: Mutant, db: Database, processes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one of the mechanisms off, the same schedules fail, and say which promise it was that kept."""
    promise, steps = MUTANTS[mutant]
    mutant(monkeypatch)

    found = found_by(lambda: play(db, processes, examples=300, only=promise, steps=steps))

    assert promise in found
