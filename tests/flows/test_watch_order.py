"""A watcher is shown the messages of a run in the order of `seq`, each once, whatever happens to Redis or a commit."""

import asyncio
import itertools
import json
from contextlib import aclosing, suppress
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ResponseError

from tests.support import life
from tests.support.valkey import ValkeyServer
from worker.domain import SERVICE, Draft, Event, EventId, Role, Status, Usage, message_completed
from worker.domain.event import MESSAGE_COMPLETED, MESSAGE_DELTA
from worker.events.follow import Follower
from worker.runs import unfinished, watch
from worker.runs.finish import Ending
from worker.store import Database, leases, messages, runs, sessions

NUMBERS = itertools.count()
PHASES = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # an example takes long: it is not made smaller
STEPS = st.lists(
    st.sampled_from(["sent", "sent", "lost", "late", "flush", "trim", "claimed again", "leave", "look", "look"]),
    min_size=3,
    max_size=14,
)


class Writer:
    """A run that writes messages, and a stream to which their events come, or not."""

    def __init__(self, db: Database, redis: "Redis[Any]") -> None:
        self._db = db
        self._redis = redis
        self.run = life.accept(db, session=f"s-{next(NUMBERS)}").run
        self._n = 0
        self._late: list[tuple[str, Event]] = []
        self._claim = life.take(db, self.run.id, ttl_s=-1)
        self._written = list(self._claim.log)
        self._put(message_completed(self._written[0], index=0))

    def write(self, how: str) -> None:
        """Write a message. Its event is sent, or lost, or comes after the next one."""
        with self._db.write() as tx:
            seq = sessions.advance(tx, self._claim.session_pk, messages=1)
            assert seq is not None
            leases.hold(tx, self._claim, last_seq=seq, usage=Usage(), ttl_s=-1)
            draft = Draft(Role.ASSISTANT, "t", f"text {seq}")
            pk, run_id = self._claim.session_pk, self.run.id
            self._written += messages.append(tx, [draft], session_pk=pk, run_id=run_id, last_seq=seq)
        index = len(self._written) - 1
        self._put(MESSAGE_DELTA(message_id=f"{index}", author="t", delegation=None, delta="text"))
        event = message_completed(self._written[-1], index=index)
        if how == "sent":
            self._put(event)
        self._n += 1
        if how == "late":
            self._late.append((f"{self._claim.fence}-{self._n}", event))
            return
        for id, late in self._late:
            self._add(id, late)
        self._late.clear()

    def claim_again(self) -> None:
        """The process is lost, and the next one goes on; not so often that the run is taken for what crashes it."""
        if self._claim.attempt == 2:
            return
        self._claim = life.take(self._db, self.run.id, ttl_s=-1)
        self._n = 0

    def flush(self) -> None:
        self._redis.flushall()

    def trim(self) -> None:
        self._redis.xtrim(self._key, maxlen=1, approximate=False)

    def end(self) -> list[int]:
        """End the run; return the seqs of its messages."""
        life.end(self._db, self._claim, Ending(Status.COMPLETED, [Draft(Role.ASSISTANT, "t", "the end")], output="x"))
        self._add(f"{self._claim.fence + 1}-0", Event("run.completed", {}))
        with self._db.read() as tx:
            return [message.seq for message in messages.of_run_by_id(tx, self.run.id)]

    def _put(self, event: Event) -> None:
        self._n += 1
        self._add(f"{self._claim.fence}-{self._n}", event)

    def _add(self, id: str, event: Event) -> None:
        with suppress(ResponseError):  # an older id than the last
            self._redis.xadd(self._key, {"type": event.type, "data": json.dumps(event.data)}, id=id)
            self._redis.expire(self._key, 60)

    @property
    def _key(self) -> str:
        return f"run:{self.run.id}:events"


class Reader:
    """Watches a run, leaves, and resumes after the last event. Each list of `visits` is what one visit was shown."""

    def __init__(self, db: Database, follower: Follower, run_id: str) -> None:
        self._db = db
        self._follower = follower
        self._run_id = run_id
        self._unfinished = unfinished.UnfinishedRuns(db)
        self.visits: list[list[tuple[EventId, Event]]] = []
        self.come()

    def come(self) -> None:
        self.visits.append([])
        self.watching = asyncio.create_task(self._watch())

    async def leave(self) -> None:
        self.watching.cancel()
        await asyncio.wait([self.watching])

    async def _watch(self) -> None:
        with self._db.read() as tx:
            run = runs.get(tx, self._run_id, principal=SERVICE)
        assert run is not None
        after = next((visit[-1][0] for visit in reversed(self.visits) if visit), None)
        async with aclosing(watch.watch(self._db, self._follower, self._unfinished, run, after=after)) as events:
            async for item in events:
                if item is not None:
                    self.visits[-1].append(item[:2])


async def play(db: Database, redis: "Redis[Any]", url: str, steps: list[str]) -> None:
    """Let a run live through *steps*, and check what its reader was shown."""
    writer, follower = Writer(db, redis), Follower(url, prefix="")
    reader = Reader(db, follower, writer.run.id)
    try:
        for step in steps:
            if step == "look":
                await asyncio.sleep(0.02)
            elif step == "leave":
                await reader.leave()
                reader.come()
            elif step == "flush":
                writer.flush()
            elif step == "trim":
                writer.trim()
            elif step == "claimed again":
                writer.claim_again()
            else:
                writer.write(step)
        written = writer.end()
        await asyncio.wait_for(reader.watching, 60)
    finally:
        await reader.leave()
        await follower.close()

    shown = [[e.data["seq"] for _, e in visit if e.type == MESSAGE_COMPLETED.name] for visit in reader.visits]
    assert all(seqs == sorted(set(seqs)) for seqs in shown)
    everything = list(itertools.chain.from_iterable(shown))
    assert sorted(set(everything)) == written
    if not {"flush", "trim"} & set(steps):  # with its stream, Redis lost what a reader who comes back has seen
        assert everything == written
    ids = [id for visit in reader.visits for id, _event in visit]
    assert ids == sorted(set(ids))
    assert reader.visits[-1][-1][1].type == "run.completed"


@pytest.mark.default_on("postgres")
@pytest.mark.parametrize("examples", [15, pytest.param(150, marks=pytest.mark.extended)])
def test_messages_are_shown_in_order_whatever_happened(
    db: Database, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    """Events are lost, late, trimmed, flushed; the run is claimed again; the reader leaves and comes back."""
    monkeypatch.setattr(watch, "POLL_S", 0.1)
    monkeypatch.setattr(watch, "LATE_S", 0.05)
    monkeypatch.setattr(unfinished, "GATHER_S", 0.01)

    @hypothesis.settings(max_examples=examples, derandomize=examples < 100, database=None, phases=PHASES)
    @hypothesis.given(STEPS)
    @hypothesis.example(["sent", "look", "lost", "sent", "look", "leave", "sent"])
    @hypothesis.example(["late", "sent", "look", "sent", "leave", "sent"])
    @hypothesis.example(["sent", "flush", "sent", "claimed again", "late", "flush", "sent", "leave", "sent"])
    def check(steps: list[str]) -> None:
        with Redis.from_url(valkey.url) as redis:
            asyncio.run(play(db, redis, valkey.url, steps))

    check()
