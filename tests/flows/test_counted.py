"""What processes count of what goes wrong: refused writes, repairs, failed dispatches; and looks without an answer."""

import threading
from collections.abc import Iterator

import pytest
from prometheus_client import Counter

from tests.support.batches import Played, end_as, ended_runs
from tests.support.life import accept, end, take
from tests.support.system import wait_until
from tests.support.valkey import ValkeyServer
from worker.domain import BatchOrder, Kind, Principal, Status
from worker.errors import DatabaseUnavailable, LeaseLost
from worker.observe import metrics
from worker.process.bounded_poll import BoundedPoll
from worker.process.contact import Contact
from worker.process.key_cache import KeyCache
from worker.process.metrics_access import MetricsAccess
from worker.process.sweep import Sweep
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.queue.embedded import free_port
from worker.runs.cancel import cancel
from worker.runs.finish import Ending
from worker.settings import Settings
from worker.store import Database, Transaction, api_keys, teams


class Grown:
    """How far counters have come since it was made."""

    def __init__(self) -> None:
        self._before = dict(self._now())

    def __call__(self, counter: Counter, *labels: str) -> float:
        name = next(iter(counter.describe())).name + "_total"
        return dict(self._now()).get((name, labels), 0) - self._before.get((name, labels), 0)

    def _now(self) -> Iterator[tuple[tuple[str, tuple[str, ...]], float]]:
        for family in metrics.PROCESS.collect():
            for sample in family.samples:
                yield (sample.name, tuple(sample.labels.values())), sample.value


def dispatcher(url: str) -> Dispatcher:
    settings = Settings(redis_url=url)  # type: ignore[call-arg]  # named by its alias
    return Dispatcher(make_app(settings))


def test_a_write_that_the_fence_refuses_is_counted(db: Database) -> None:
    """Once, by the process that was refused."""
    run_id = accept(db).run.id
    stale = take(db, run_id, ttl_s=-1)
    take(db, run_id, owner="other")
    grown = Grown()

    with pytest.raises(LeaseLost):
        end(db, stale, Ending(Status.COMPLETED))

    assert grown(metrics.REFUSED_WRITES, "run") == 1


def test_what_the_sweep_repairs_is_counted_by_kind(db: Database, valkey: ValkeyServer) -> None:
    """A lease that ran out is one thing, a time that came another."""
    with db.write() as tx:
        teams.announce(tx, worker="me", versions={"t": "1"}, queues=["runs", "resumed"])
    take(db, accept(db, session="a").run.id, ttl_s=0.01)
    sweep = Sweep(db, dispatcher(valkey.url), Contact(ttl_s=15), extra_steps=[])
    grown = Grown()

    wait_until(sweep.once, description="a run is sent again")

    assert grown(metrics.REPAIRS, "lease_expired") == 1
    assert grown(metrics.REPAIRS, "time_come") == grown(metrics.REPAIRS, "dispatch_lost") == 0
    assert grown(metrics.DISPATCHES, "resumed", "sent") == 1


def test_dispatches_to_a_broker_that_is_away_are_counted(db: Database) -> None:
    """One has failed, and those behind it were not tried."""
    ready = [dispatch for session in "abc" for dispatch in accept(db, session=session).dispatches]
    grown = Grown()

    dispatcher(f"redis://127.0.0.1:{free_port()}/0").send(ready)

    assert grown(metrics.DISPATCHES, "runs", "failed") == 1
    assert grown(metrics.DISPATCHES, "runs", "skipped") == 2


def test_accepted_and_cancelled_runs_are_counted_once(db: Database) -> None:
    """A repeated key is no new run, and a second cancel ends nothing."""
    grown = Grown()
    run_id = accept(db, key="k").run.id
    accept(db, key="k")

    cancel(db, run_id)
    cancel(db, run_id)

    assert grown(metrics.RUNS_ACCEPTED, "interactive") == 1
    assert grown(metrics.RUNS_ENDED, "", "cancelled") == 1


def test_items_of_batches_are_counted(db: Database) -> None:
    """When they are begun, and when they are found ended."""
    ended_runs(db, 2)
    grown = Grown()
    batch = Played(db, BatchOrder(kind=Kind.RETRY_FAILED))
    batch.step()
    for run_id in batch.in_flight():
        end_as(db, run_id, Status.COMPLETED)

    batch.step()

    assert grown(metrics.BATCH_ITEMS_BEGUN, "retry_failed") == 2
    assert grown(metrics.BATCH_ITEMS_ENDED, "retry_failed", "completed") == 2


def test_a_look_at_what_never_answers_leaves_one_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked; and the answer of before is not told as one of now."""
    monkeypatch.setattr("worker.process.bounded_poll.WAIT_S", 0.01)
    asked: list[int] = []
    goes_on = threading.Event()

    def ask() -> int:
        asked.append(len(asked))
        if len(asked) == 2:
            goes_on.wait()
        return len(asked)

    poll = BoundedPoll(ask, fresh_s=0)
    first = poll.result()
    while first is None:  # on a busy machine a thread may take longer to begin
        first = poll.result()
    frozen = [poll.result() for _ in range(5)]
    goes_on.set()

    assert first == 1
    assert frozen == [None] * 5
    assert len(asked) == 2


def test_unknown_keys_leave_a_bounded_number_of_threads_at_a_frozen_database(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are tried; a key that was known before is let in all the same."""
    monkeypatch.setattr("worker.process.bounded_poll.WAIT_S", 0.01)
    monkeypatch.setattr("worker.process.metrics_access.KEYS_KEPT", 3)
    monkeypatch.setattr("worker.process.metrics_access.FRESH_S", 0.0)
    with db.write() as tx:
        key = api_keys.create(tx, name="prometheus", scopes=frozenset({"runs:read"}))
    access, goes_on = MetricsAccess(KeyCache(db)), threading.Event()
    wait_until(lambda: _is_let_in(access, key), description="the key is known")
    verify = api_keys.verify

    def frozen(tx: Transaction, key: str) -> Principal | None:
        goes_on.wait()
        return verify(tx, key)

    monkeypatch.setattr("worker.store.api_keys.verify", frozen)
    before = threading.active_count()

    let_in = [_is_let_in(access, key)] + [_is_let_in(access, f"ts_{n:016x}_x") for n in range(10)]
    left_behind = threading.active_count() - before
    again = _is_let_in(access, key)
    goes_on.set()
    wait_until(lambda: threading.active_count() <= before, description="all of them have ended")

    assert let_in == [True] + [False] * 10
    assert left_behind == 3
    assert again


def _is_let_in(access: MetricsAccess, key: str) -> bool:
    try:
        return access.check(key) is not None
    except DatabaseUnavailable:
        return False
