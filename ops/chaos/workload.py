"""The users: a few threads that enqueue, watch, cancel, retry and delete while faults happen.

Each thread has its own random generator. Each input begins with a unique name ("I am M17."), so the checker can find it
in histories and in summaries.
"""

import itertools
import random
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from sqlalchemy import select

from api_stub.client import Client, RequestFailed, Unreachable
from ops.chaos.book import Accepted, Book, Slot
from ops.chaos.system import Fleet
from tests.support.run_view import RunView
from worker.errors import DatabaseUnavailable
from worker.store.columns import db_time
from worker.store.tables import runs

SESSIONS, THREADS, WATCHERS = 40, 6, 8
MOST_UNFINISHED = 120  # the threads pause above this number of open runs: the system must be busy, not flooded
TERMINAL = ("completed", "failed", "cancelled")
ON_BUSY = ("enqueue", "enqueue", "enqueue", "coalesce", "coalesce", "interrupt", "rollback", "reject")
STORIES = {
    "plain": ("hello", "[words=12] [pace=0.05]", "[delay=1.5]", "[words=5] [delay=0.5]", "[fail=400]"),
    "tools": (
        "[steps=3] [delay=0.1]",
        "[steps=1] [calls=3]",
        "[call=note {}] [call=charge {}]",
        "[call=charge {}]",
    ),
    "leads": ("[delegate=a,b] task: [steps=1] [delay=0.2]", "[delegate=b] task: [call=charge {}]", "[words=3]"),
    "condensed": ("hello", "[words=8]", "[delay=0.3]"),
}


class Workload:
    """`start` begins; `stop` ends the requests, `finish` ends the watching."""

    def __init__(self, fleet: Fleet, seed: str) -> None:
        self.book = Book()
        self._fleet = fleet
        self._seed = seed
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(WATCHERS, thread_name_prefix="watcher")
        self._watches: list[Future[None]] = []
        self._unfinished = 0
        self._slots = [self._new_slot(n) for n in range(SESSIONS)]
        works = [*[lambda n=n: self._work(n) for n in range(THREADS)], self._poll_rows]
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more requests, and wait until each one is answered."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def finish(self, *, within_s: float) -> None:
        """Let those who watch come to their ends; they give up behind *within_s* seconds."""
        wait(self._watches, timeout=within_s)
        self.close()

    def close(self) -> None:
        """End it as it stands."""
        self._stopping.set()
        self._over.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _new_slot(self, n: int) -> Slot:
        team = list(STORIES)[n % len(STORIES)]
        return Slot(f"u{n % 5}", f"s{n}-{next(self._numbers)}", team)

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        acts = {
            self._enqueue: 70,
            self._cancel: 6,
            self._retry: 6,
            self._rename: 6,
            self._read: 6,
            self._condense: 3,
        }
        with self._fleet.client() as client:
            while not self._stopping.wait(chance.uniform(0.1, 0.5)):
                if self._unfinished > MOST_UNFINISHED:
                    continue
                n = chance.randrange(SESSIONS)
                if chance.random() < 0.015:
                    self._delete(client, n)
                    continue
                act = chance.choices(list(acts), list(acts.values()))[0]
                with self.book.using(self._slots, n) as slot:
                    self._guarded(lambda act=act, slot=slot: act(client, slot, chance))

    def _guarded(self, act: Any) -> None:
        try:
            act()
        except (RequestFailed, Unreachable) as error:
            self.book.was_refused(error)

    def _enqueue(self, client: Client, slot: Slot, chance: random.Random) -> None:
        marker = f"M{next(self._numbers)}"
        on_busy = chance.choice(ON_BUSY)
        text = f"I am {marker}. {chance.choice(STORIES[slot.team])}"
        key = uuid.UUID(int=chance.getrandbits(128)).hex
        order: Any = {"session_id": slot.session, "user_id": slot.user, "on_busy": on_busy, "idempotency_key": key}
        sent = time.monotonic()
        run = client.enqueue(slot.team, text, **order)
        self.book.accepted.append(Accepted(run["id"], slot.session_key, marker, on_busy, sent, time.monotonic()))
        if chance.random() < 0.2:
            again = client.enqueue(slot.team, text, **order)
            if again["id"] != run["id"]:
                self.book.problems.append(f"doubled: one key made {run['id']} and {again['id']}")
        if chance.random() < 0.3:
            self._watches.append(self._pool.submit(self._watch, run["id"], slot, random.Random(key)))

    def _some_run(self, slot: Slot, chance: random.Random) -> Accepted | None:
        own = [a for a in self.book.accepted[-400:] if a.session_key == slot.session_key][-4:]
        return chance.choice(own) if own else None

    def _cancel(self, client: Client, slot: Slot, chance: random.Random) -> None:
        if some := self._some_run(slot, chance):
            self.book.saw(client.cancel(some.run_id, user_id=slot.user))

    def _read(self, client: Client, slot: Slot, chance: random.Random) -> None:
        if some := self._some_run(slot, chance):
            self.book.saw(client.run(some.run_id, wait_s=1, user_id=slot.user))

    def _retry(self, client: Client, slot: Slot, chance: random.Random) -> None:
        if some := self._some_run(slot, chance):
            sent = time.monotonic()
            run = client.retry(some.run_id, user_id=slot.user)
            self.book.accepted.append(
                Accepted(run["id"], slot.session_key, some.marker, "retry", sent, time.monotonic())
            )

    def _rename(self, client: Client, slot: Slot, chance: random.Random) -> None:
        if not self._some_run(slot, chance):
            return
        name = f"name {next(self._numbers)}"
        with self.book.lock:
            self.book.renamed.setdefault(slot.session_key, []).append(name)
        answered = client.update_session(slot.session, name=name, tags=[name], user_id=slot.user)
        if answered["tags"] != [answered["name"]]:
            self.book.problems.append(f"lost: an update of {slot.session} was applied by half")

    def _condense(self, client: Client, slot: Slot, chance: random.Random) -> None:
        if slot.team == "condensed" and self._some_run(slot, chance):
            client.refresh_summary(slot.session, user_id=slot.user)

    def _delete(self, client: Client, n: int) -> None:
        with self.book.lock:
            old, self._slots[n] = self._slots[n], self._new_slot(n)
        while old.users:
            time.sleep(0.02)
        self.book.deleted.add(old.session_key)
        self._guarded(lambda: client.delete_session(old.session, user_id=old.user))

    def _watch(self, run_id: str, slot: Slot, chance: random.Random) -> None:
        watch(self._fleet, self.book, run_id, user=slot.user, chance=chance, over=self._over)

    def _poll_rows(self) -> None:
        """Note which runs have ended, and count the others."""
        ended = select(runs.c.id, runs.c.status, runs.c.output).where(runs.c.finished_at > db_time(-10))
        open_runs = select(runs.c.id).where(runs.c.status.not_in(TERMINAL))
        while not self._stopping.wait(1.0):
            try:
                with self._fleet.db.read() as tx:
                    rows = tx.execute(ended).all()
                    self._unfinished = len(tx.execute(open_runs).all())
            except DatabaseUnavailable:
                continue
            for row in rows:
                self.book.saw_end(*row)


def watch(fleet: Fleet, book: Book, run_id: str, *, user: str, chance: random.Random, over: threading.Event) -> None:
    """Watch a run to its end, or until *over*; disconnect after a few events, and continue after the last of them."""
    view = RunView()
    book.watched.append((run_id, view))
    with fleet.client(tries=2) as client:
        while not view.ended and not over.is_set():
            left = chance.randrange(1, 30)
            try:
                for event in client.stream(run_id, after=view.last_id, user_id=user):
                    view.take(event)
                    left -= 1
                    if not left or over.is_set():
                        break
            except Unreachable:
                continue
            except RequestFailed as error:
                if error.status == 404:
                    return  # its session was deleted
                time.sleep(0.5)
