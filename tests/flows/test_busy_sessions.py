"""Many clients with mixed strategies, and processes that are lost, at once on two sessions."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.flows.test_on_busy import ANSWER, REMEMBERS, order
from tests.support import look
from tests.support.life import end
from worker import clock
from worker.domain import Claim, OnBusy, Priority, Role, Run, RunOrder, Status
from worker.errors import LeaseLost, SessionBusy
from worker.runs.claim import claim_head
from worker.runs.enqueue import enqueue
from worker.runs.finish import Ending
from worker.runs.session_history import SessionHistory
from worker.settings import Settings
from worker.store import Database, leases, messages
from worker.store import sessions as sessions_of
from worker.store.tables import runs, sessions

PAUSE_S = 0.005  # all of this is one process: whoever looks without a pause takes the others' time
PATIENCE_S = 300.0


@dataclass
class World:
    """Clients with mixed strategies and processes that execute, all at once, on two sessions."""

    db: Database
    seed: int
    orders: dict[str, tuple[RunOrder, Run]] = field(default_factory=dict)  # by text
    refused: set[str] = field(default_factory=set)
    endings: Counter[str] = field(default_factory=Counter)  # run → times that its end was taken
    contexts: list[tuple[str, list[str]]] = field(default_factory=list)  # (run, the runs that it saw)
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: threading.Event = field(default_factory=threading.Event)

    def client(self, number: int, count: int = 25) -> None:
        """Enqueue with strategies at random, a third of them twice under a key."""
        rng = random.Random(f"{self.seed} client {number}")
        for n in range(count):
            text = f"c{number}n{n}"
            options = {"session": rng.choice("ab"), "priority": rng.choice(list(Priority))}
            if rng.random() < 0.2:  # it waits for its time, and others pass it
                options["not_before"] = clock.now() + timedelta(seconds=rng.random() * 0.3)
            asked = order(text, rng.choice(list(OnBusy)), **options)
            key = f"key {text}" if rng.random() < 0.34 else None
            try:
                accepted = enqueue(self.db, asked, settings=Settings(), idempotency_key=key)
            except SessionBusy:
                self.refused.add(text)
                continue
            self.orders[text] = (asked, accepted.run)
            if key is not None:
                again = enqueue(self.db, asked, settings=Settings(), idempotency_key=key)
                if (again.run.id, again.repeated) != (accepted.run.id, True):
                    self.problems.append(f"{text}: its key found another run")
            time.sleep(rng.random() * 0.01)

    def process(self, number: int) -> None:
        """Execute heads: most are answered, some are lost with their process, and what is asked to end is ended."""
        rng = random.Random(f"{self.seed} process {number}")
        while not self.done.is_set():
            with self.db.read() as tx:
                heads = list(tx.execute(select(sessions.c.head_run_id)).scalars())
            run_id = rng.choice([h for h in heads if h] or [""])
            claim = (
                claim_head(self.db, run_id, owner=f"p{number}", ttl_s=0.05, definition=REMEMBERS, isolated=True)
                if run_id
                else None
            )
            if not isinstance(claim, Claim):
                time.sleep(PAUSE_S)
                continue
            seen = SessionHistory(self.db, claim).history(REMEMBERS, context_tokens=10_000).messages
            self.contexts.append((run_id, [message.run_id for message in seen]))
            time.sleep(rng.random() * 0.02)
            if (fate := rng.random()) < 0.15:
                continue  # lost: the lease runs out
            if fate < 0.4:
                with self.db.write() as tx:
                    sessions_of.advance(tx, claim.session_pk, messages=0)
                    leases.requeue(tx, claim, wait_s=0.02, waits_for="model_unavailable", retried=True)
                continue
            self._end(claim)

    def _end(self, claim: Claim) -> None:
        with self.db.read() as tx:
            asked_to_stop = any(w.cancel_requested for w in leases.watch(tx, [claim.run_id]))
        ending = Ending(Status.CANCELLED) if asked_to_stop else Ending(Status.COMPLETED, [ANSWER], output="an answer")
        try:
            end(self.db, claim, ending)
        except LeaseLost:
            return
        with self.lock:
            self.endings[claim.run_id] += 1

    def watch(self) -> None:
        """Look at the order all the while: the head is the oldest unfinished run, and no other one runs."""
        unfinished = runs.c.status.in_(["queued", "running"])
        columns = (sessions.c.session_id, sessions.c.head_run_id, runs.c.id, runs.c.status)
        found = select(*columns).join(runs, runs.c.session_pk == sessions.c.pk).where(unfinished)
        while not self.done.is_set():
            with self.db.read() as tx:
                rows = tx.execute(found.order_by(runs.c.session_pk, runs.c.position)).all()
            for name in "ab":
                of_session = [row for row in rows if row.session_id == name]
                if of_session and of_session[0].id != of_session[0].head_run_id:
                    self.problems.append(f"session {name}: the head is not the oldest unfinished run")
                if any(row.status == "running" for row in of_session[1:]):
                    self.problems.append(f"session {name}: a run behind the head is running")
            time.sleep(PAUSE_S)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.extended)])
def test_mixed_strategies_of_many_clients_lose_no_text(db: Database, seed: int) -> None:
    """Eight clients and four processes on two sessions: order kept, each text kept once, each run ended once."""
    world = World(db, seed)
    with ThreadPoolExecutor(16) as pool:
        others = [pool.submit(world.watch), *(pool.submit(world.process, n) for n in range(4))]
        clients = [pool.submit(world.client, n) for n in range(8)]
        try:
            for client in clients:
                client.result(timeout=PATIENCE_S)
            _drain(db)
        finally:
            world.done.set()
        for other in others:
            other.result(timeout=120)

    assert not world.problems
    with db.read() as tx:
        rows = tx.execute(select(runs).order_by(runs.c.session_pk, runs.c.position)).all()
    _check_texts(world, rows)
    _check_histories(db, rows)
    _check_ends(world, rows)


def _drain(db: Database) -> None:
    """Wait until every run has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while look.count(db, "queued") + look.count(db, "running"):
        assert time.monotonic() < deadline, "the sessions stand still"
        time.sleep(0.05)


def _check_texts(world: World, rows: list[Any]) -> None:
    """Each accepted text is a whole part of the input of the run that it was told, once; no refused one is anywhere."""
    inputs = {row.id: row.input.split("\n\n") for row in rows}
    parts = Counter(part for input in inputs.values() for part in input)
    assert parts == Counter(world.orders.keys())
    assert not world.refused & parts.keys()
    for text, (asked, run) in world.orders.items():
        assert text in inputs[run.id]
        if asked.on_busy is not OnBusy.COALESCE:
            assert inputs[run.id][0] == text, "only coalesce joins"
    joined = sum(len(input) > 1 for input in inputs.values())
    assert joined, "the schedule joined nothing: it proves too little"
    assert len(world.refused) > 3


def _check_histories(db: Database, rows: list[Any]) -> None:
    """Positions and seqs without a gap, runs contiguous in their order, and each input a message as it stands."""
    for pk in {row.session_pk for row in rows}:
        own = [row for row in rows if row.session_pk == pk]
        with db.read() as tx:
            log = messages.page(tx, session_pk=pk, after_seq=0, limit=10_000)
            place = {"session_pk": pk, "after_seq": 0, "through_seq": 10_000}
            condensed = messages.to_condense(tx, **place, limit=10_000, cut=10_000)
        assert [row.position for row in own] == list(range(1, len(own) + 1))
        assert [m.seq for m in log] == list(range(1, len(log) + 1))
        assert list(dict.fromkeys(m.run_id for m in log)) == [row.id for row in own]
        said = [m.content for m in log if m.role is Role.USER]
        assert said == [row.input for row in own], "an input was changed after it had become a message"
        excluded = {row.id for row in own if row.excluded}
        read = {part.message.run_id for part in condensed if part.message.content or part.message.tool_calls}
        assert read
        assert not excluded & read


def _check_ends(world: World, rows: list[Any]) -> None:
    """Each run has one end, and no run saw one that was rolled back."""
    excluded = {row.id for row in rows if row.excluded}
    assert {row.status for row in rows} == {"completed", "cancelled"}
    assert max(world.endings.values()) == 1
    assert not [row.id for row in rows if row.status == "completed" and world.endings[row.id] != 1]
    assert excluded
    assert not [run for run, seen in world.contexts if excluded & set(seen)]
    made_way = {run.id for asked, run in world.orders.values() if asked.on_busy in (OnBusy.INTERRUPT, OnBusy.ROLLBACK)}
    assert made_way
