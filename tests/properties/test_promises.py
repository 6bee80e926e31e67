"""Promises 1 to 4 under random schedules, and proof that the schedules would notice if one were broken."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import select, true, update

from tests.properties.attempts import control
from tests.properties.found import found_by
from tests.properties.machine import Promises
from tests.support.valkey import ValkeyServer
from worker import settings as configuration
from worker.errors import LeaseLost
from worker.loop import pending
from worker.process import runtime
from worker.process.patience import Patience
from worker.process.runtime import Runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs import claim, journal
from worker.runs.journal import RunJournal
from worker.store import leases, messages
from worker.store import runs as rows_of_runs
from worker.store.tables import runs, sessions

QUIET = list(HealthCheck)  # the machine is slow, and its rules filter much


@pytest.fixture
def processes(database_url: str, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Runtime]]:
    """Three processes' worth of rooms. Their keepers look when the machine says so, and leases never end by time."""
    monkeypatch.setenv("TEAM_SESSIONS_DATABASE_URL", database_url)
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", valkey.url)
    monkeypatch.setenv("TEAM_SESSIONS_LEASE_SECONDS", "3600")
    read = configuration.load()
    started = [
        runtime.start(read, Dispatcher(make_app(read)), {}, ["resumed", "runs"], isolated=None) for _ in range(3)
    ]
    for process in started:
        process.keeper.close()
        control(process.db.engine)
    yield started
    for process in started:
        process.close()


def play(processes: list[Runtime], *, examples: int, steps: int = 30) -> None:
    """Run the machine on these processes."""
    rules: Any = type(
        "PromisesHere",
        (Promises,),
        {"db": processes[0].db, "processes": processes, "can_hold": not processes[0].db.is_sqlite},
    )
    phases = [Phase.explicit, Phase.generate]  # what fails is shown as it was found: threads do not shrink well
    run_state_machine_as_test(
        rules,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=phases,
            suppress_health_check=QUIET,
            database=None,
        ),
    )


def test_promises_hold_under_random_schedules(processes: list[Runtime]) -> None:
    """Accept, deliver, answer, crash, stall, cancel in any order: kept, in order, once, no zombie writes."""
    play(processes, examples=40)


def head_check_off(patch: pytest.MonkeyPatch) -> None:
    """Any run of a session may execute."""
    patch.setattr(claim, "is_head", lambda _session, _run_id: True)


def fence_check_off(patch: pytest.MonkeyPatch) -> None:
    """A write of any process is taken."""
    patch.setattr(leases, "still_held", lambda _fence, _status=None: true())
    for room, name in ((leases, "_hold"), (rows_of_runs, "_end")):  # statements that were built with it
        patch.setattr(room, name, getattr(room, name).__wrapped__)


def lock_off(patch: pytest.MonkeyPatch) -> None:
    """The fence is checked without a lock, and nothing is locked until the write itself."""

    def hold(self: RunJournal, tx: Any, drafts: Any, *, usage: Any) -> int:
        mine = self._claim
        row = tx.execute(select(runs.c.fence, runs.c.status).where(runs.c.id == mine.run_id)).one()
        if row.fence != mine.fence or row.status != "running":
            raise LeaseLost(run_id=mine.run_id, fence=mine.fence)
        room = update(sessions).where(sessions.c.pk == mine.session_pk)
        last_seq = tx.execute(
            room.values(last_seq=sessions.c.last_seq + len(drafts)).returning(sessions.c.last_seq)
        ).scalar_one()
        booked = {"last_seq": last_seq, "model_calls": runs.c.model_calls + usage.model_calls}
        tx.execute(update(runs).where(runs.c.id == mine.run_id).values(**booked))
        return int(last_seq)

    patch.setattr(RunJournal, "_hold", hold)


def resume_off(patch: pytest.MonkeyPatch) -> None:
    """A run that is taken over begins again with its input."""
    whole = messages.of_run

    def input_only(tx: Any, **place: Any) -> Any:
        return whole(tx, **place)[:1]

    patch.setattr(messages, "of_run", input_only)


def look_up_off(patch: pytest.MonkeyPatch) -> None:
    """A commit whose answer was lost is repeated without looking."""
    write = Patience.write
    patch.setattr(Patience, "write", lambda self, work, **_: write(self, work, committed=lambda _tx, _result: False))


def second_look_off(patch: pytest.MonkeyPatch) -> None:
    """A run pauses without a look, under the lock, at what was decided meanwhile."""
    patch.setattr(journal, "key_of", lambda _id: "")  # it knows none of the calls again


def decision_off(patch: pytest.MonkeyPatch) -> None:
    """A call that asks is made at once."""
    patch.setattr(pending, "settled", lambda _conversation, _tool, call, _key: call)


MUTANTS: list[Callable[[pytest.MonkeyPatch], None]] = [
    head_check_off,
    fence_check_off,
    lock_off,
    resume_off,
    look_up_off,
    second_look_off,
    decision_off,
]


# SQLite has one writer at a time: there is no lock that could be taken off.
BROKEN = [(db, mutant) for db in ("sqlite", "postgres") for mutant in MUTANTS if (db, mutant) != ("sqlite", lock_off)]


@pytest.mark.extended
@pytest.mark.parametrize(
    ("database_url", "mutant"), BROKEN, indirect=["database_url"], ids=[f"{db}-{m.__name__}" for db, m in BROKEN]
)
def test_the_machine_finds_a_broken_promise(
    mutant: Callable[[pytest.MonkeyPatch], None], processes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one of the mechanisms off, the same schedules fail: the test above can fail, and for the right reason."""
    mutant(monkeypatch)

    found = found_by(lambda: play(processes, examples=600))

    assert any(promise in found for promise in ("order:", "once:", "zombie:", "asked:")), found[:300]
