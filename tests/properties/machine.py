"""A state machine that breaks promises 1 to 4 on purpose, on the real code and a real database.

Its steps are what can happen to a deployment: runs are accepted, deliveries come in any order, twice, late or never,
models answer or fail, tools are called, processes crash at any commit or stall past their lease and wake up again, the
database fails at any commit, users cancel. Each attempt is `worker.runs.execute.execute` on a thread, held at the doors
that the machine controls: the model, and the commits of its process's engine. After each step the rows are checked.
Which rule comes next and its arguments never depend on rows or threads, so that a schedule that failed can be played
again: a rule without anything to act on does nothing.
"""

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from sqlalchemy import select, update

from tests.properties.attempts import SETTLE_S, Attempt, Crash, GatedModel
from tests.properties.promise_checks import Checks
from worker.domain import ChatRequest, Decision, Reply, Role, RunOrder, Status, ToolCall, Usage, new_id
from worker.errors import AlreadyDecided, ModelRefused, ModelUnavailable, RunNotPaused
from worker.loop.definition import Definition
from worker.loop.tools import RunContext, tool
from worker.process.runtime import Runtime
from worker.runs.cancel import cancel
from worker.runs.decide import decide, expire
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store import messages, pending_calls
from worker.store.columns import db_time
from worker.store.tables import pending_calls as pending
from worker.store.tables import runs, sessions
from worker.team import Team

BLOCKED_S = 0.4  # an attempt that has not moved for so long waits for a lock
SESSIONS = st.sampled_from(["a", "b"])
PROCESSES = st.integers(0, 2)
CALLS = {
    "note": ["note"],
    "charge": ["charge"],
    "both": ["note", "charge"],
    "ask": ["ask", "charge"],
    "ask and decide": ["ask", "ask", "decide_now"],
}
WHAT = ["text", *CALLS]
PICK = st.integers(0, 11)  # of the runs that were accepted, or of the attempts at the model, from the newest


class Promises(Checks):
    """The rules. `db` and `processes` are set by the test that runs it."""

    processes: ClassVar[list[Runtime]]
    can_hold: ClassVar[bool]  # SQLite has one writer: nobody else could go on while a commit is held

    def __init__(self) -> None:
        super().__init__()
        self.user = new_id("u")
        self.keys: dict[str, str] = {}
        self.live: list[Attempt] = []
        self.count = 0
        world = self

        @tool
        def note(context: RunContext) -> str:
            """Note something; again does no harm."""
            return "noted"

        @tool(repeatable=False)
        def charge(context: RunContext) -> str:
            """Charge somebody."""
            world.effects[context.idempotency_key] += 1
            return "charged"

        @tool(requires_confirmation=True, repeatable=False)
        def ask(context: RunContext) -> str:
            """Do what needs an approval."""
            world.asked[context.idempotency_key] += 1
            return "done"

        @tool
        def decide_now(context: RunContext) -> str:
            """Decide about the calls of this run, before it pauses."""
            world.decide_all(context.run_id, "approve")
            return "decided"

        self.definition: Definition = Team(id="t", tools=[note, charge, ask, decide_now], version="1").definition

    # What can happen.

    @rule(session=SESSIONS, key=st.sampled_from([None, "k1", "k2"]))
    def accept(self, session: str, key: str | None) -> None:
        """A service enqueues a run, or repeats an order whose answer it lost."""
        order = RunOrder(
            "t", f"input {session} {key}" if key else f"input {len(self.orders)}", session_id=session, user_id=self.user
        )
        known = self.keys.get(f"{session}{key}") if key else None
        accepted = enqueue(self.db, order, settings=Settings(), idempotency_key=f"{session}{key}" if key else None)
        if known is not None:
            assert accepted.run.id == known, "the same key made another run"
            return
        if key:
            self.keys[f"{session}{key}"] = accepted.run.id
        self.orders[accepted.run.id] = order

    @rule(pick=PICK, process=PROCESSES)
    def deliver(self, pick: int, process: int) -> None:
        """A delivery arrives: the first, a double, a late one, or one of a run that is not head."""
        run_id = self._run(pick)
        if run_id and len(self.live) < 4:
            self._start(run_id, process)

    @rule(session=SESSIONS, process=PROCESSES)
    def deliver_head(self, session: str, process: int) -> None:
        """The delivery arrives that was meant to."""
        with self.db.read() as tx:
            of = (sessions.c.user_id == self.user, sessions.c.session_id == session)
            head = tx.execute(select(sessions.c.head_run_id).where(*of)).scalar_one_or_none()
        if head and len(self.live) < 4:
            self._start(head, process)

    @rule(pick=PICK, what=st.sampled_from(["text", "note"]), process=PROCESSES)
    def stall_and_wake(self, pick: int, what: str, process: int) -> None:
        """A process stalls past its lease, another one claims its run, and the first wakes up with an answer."""
        if attempt := self._asking(pick):
            self._expire(attempt.run_id)
            self._start(attempt.run_id, process)
            self._give(attempt, what)

    @rule(pick=PICK, what=st.sampled_from([*WHAT, "unavailable", "refused"]))
    def answer(self, pick: int, what: str) -> None:
        """A model answers, or fails."""
        if attempt := self._asking(pick):
            self._give(attempt, what)

    @rule(pick=PICK)
    def crash_in_call(self, pick: int) -> None:
        """A process dies while its model has not answered."""
        if attempt := self._asking(pick):
            attempt.answer = Crash()
            self._settle(attempt)

    @rule(pick=PICK, what=st.sampled_from(WHAT), commit=st.integers(1, 4))
    def crash_at_commit(self, pick: int, what: str, commit: int) -> None:
        """A process dies between what it did and the commit that says so."""
        if attempt := self._asking(pick):
            attempt.crash_at_commit = commit
            self._give(attempt, what)
            attempt.crash_at_commit = 0

    @rule(
        pick=PICK,
        what=st.sampled_from(WHAT),
        commit=st.integers(1, 4),
        commit_first=st.booleans(),
    )
    def database_fails_at_commit(self, pick: int, what: str, commit: int, commit_first: bool) -> None:
        """The database fails at a commit of a living process, before or after it happened, and is back at once."""
        attempt = self._asking(pick)
        if attempt is None:
            return
        holds, before = self._is_current(attempt), self._replies(attempt)
        attempt.fail_at_commit, attempt.commit_first = commit, commit_first
        self._give(attempt, what)
        attempt.fail_at_commit = 0
        if holds and self._replies(attempt) <= before:
            self.problems.append(f"once: the reply of attempt {attempt.number} is lost, and will be paid for again")

    @rule(pick=PICK)
    def time_passes(self, pick: int) -> None:
        """The lease of a crashed or stalled process runs out, or a waiting run's time comes."""
        if run_id := self._run(pick):
            self._expire(run_id)

    @rule(pick=PICK, action=st.sampled_from(["approve", "reject", "expired"]))
    def decide(self, pick: int, action: str) -> None:
        """The pending calls of a run are decided, or expire."""
        run_id = self._run(pick)
        if run_id and action != "expired":
            self.decide_all(run_id, action)
        elif run_id:
            with self.db.write() as tx:
                tx.execute(update(pending).where(pending.c.run_id == run_id).values(expires_at=db_time(-1.0)))
            expire(self.db)

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        """A user cancels."""
        if run_id := self._run(pick):
            cancel(self.db, run_id)

    @rule(process=PROCESSES)
    def keeper_looks(self, process: int) -> None:
        """A process learns which of its runs shall stop."""
        self.processes[process].keeper.once()
        for attempt in self.live:
            self._settle(attempt, within_s=0.05)

    @rule(pick=PICK, what=st.sampled_from(["text", "note"]), process=PROCESSES, statement=st.integers(1, 4))
    def stall_inside_a_write(self, pick: int, what: str, process: int, statement: int) -> None:
        """A process stalls inside a transaction, past its lease; meanwhile another one tries to claim its run."""
        attempt = self._asking(pick)
        if attempt is None or not self.can_hold or not self._is_current(attempt):
            return
        self._expire(attempt.run_id)
        attempt.hold_at = statement
        attempt.answer = self._reply(attempt, what)
        wait = time.monotonic() + SETTLE_S
        while not attempt.held.is_set() and attempt.alive and time.monotonic() < wait:
            time.sleep(0.001)
        other = self._start(attempt.run_id, process, within_s=BLOCKED_S)
        attempt.release.set()
        self._settle(attempt)
        self._settle(other)
        attempt.held.clear()
        attempt.release.clear()
        attempt.hold_at = 0

    # What must hold after each step.

    @invariant()
    def promises_hold(self) -> None:
        """Read the rows at one moment, and say which promise they break. An attempt may still be writing."""
        with self.snapshot() as tx:
            mine = select(sessions.c.pk, sessions.c.session_id, sessions.c.last_seq, sessions.c.head_run_id)
            for session in tx.execute(mine.where(sessions.c.user_id == self.user)).all():
                of_session = select(runs).where(runs.c.session_pk == session.pk).order_by(runs.c.position)
                self.check_session(tx, session, tx.execute(of_session).all())
        assert not self.problems, self.problems

    def teardown(self) -> None:
        """However it stands: with one process that works, every run ends."""
        for attempt in self.live:
            attempt.release.set()
            attempt.answer = Crash()
            self._settle(attempt)
        for _ in range(3 * len(self.orders) + 3):
            with self.db.read() as tx:
                heads = select(sessions.c.head_run_id).where(sessions.c.user_id == self.user)
                waiting = [head for head in tx.execute(heads).scalars() if head is not None]
            for run_id in waiting:
                self.decide_all(run_id, "reject")
                self._expire(run_id)
                attempt = self._start(run_id, 0)
                while attempt.alive and attempt.asked:
                    self._give(attempt, "text")
            self.promises_hold()
            if not waiting:
                break
        with self.db.read() as tx:
            kept = select(runs.c.id, runs.c.status, runs.c.input).where(runs.c.id.in_(list(self.orders)))
            rows = {row.id: row for row in tx.execute(kept)}
        assert set(rows) == set(self.orders), "an accepted run is lost"
        assert all(Status(row.status).terminal for row in rows.values()), "a run is stuck"
        assert all(rows[run_id].input == order.input for run_id, order in self.orders.items())

    def decide_all(self, run_id: str, action: Any) -> None:
        """Decide about the calls of a run that wait; one that has ended meanwhile refuses it."""
        with self.db.read() as tx:
            waiting = [call.id for call in pending_calls.of_run(tx, run_id) if call.is_open]
        for id in waiting:
            with suppress(AlreadyDecided, RunNotPaused):
                decide(self.db, run_id, [Decision(id, action)])

    # How the machine moves an attempt from door to door.

    def _run(self, pick: int) -> str | None:
        accepted = list(self.orders)
        return accepted[-1 - pick % len(accepted)] if accepted else None

    def _asking(self, pick: int) -> Attempt | None:
        asking = [attempt for attempt in self.live if attempt.asked]
        return asking[-1 - pick % len(asking)] if asking else None

    def _expire(self, run_id: str) -> None:
        with self.db.write() as tx:
            past = db_time(-1.0)
            tx.execute(update(runs).where(runs.c.id == run_id, runs.c.status == "running").values(lease_until=past))
            waits = (runs.c.not_before.is_not(None), runs.c.paused_at.is_(None))
            tx.execute(update(runs).where(runs.c.id == run_id, *waits).values(not_before=past))

    def _start(self, run_id: str, process: int, *, within_s: float = SETTLE_S) -> Attempt:
        self.count += 1
        runtime = self.processes[process]
        attempt = Attempt(self.count, run_id, runtime)
        gated = replace(self.definition, model=GatedModel(attempt, self.note_ask))
        attempt.runtime = replace(runtime, teams={"t": gated})

        self.live.append(attempt)
        attempt.start()
        self._settle(attempt, within_s=within_s)
        return attempt

    def _give(self, attempt: Attempt, what: str) -> None:
        attempt.answer = self._reply(attempt, what)
        self._settle(attempt)

    def _settle(self, attempt: Attempt, *, within_s: float = SETTLE_S) -> None:
        attempt.settle(within_s=within_s)
        if not attempt.alive:
            self.live = [a for a in self.live if a is not attempt]

    def _reply(self, attempt: Attempt, what: str) -> Reply | BaseException:
        names = CALLS.get(what, [])
        if what == "unavailable":
            return ModelUnavailable(model="gated", reason="test")
        if what == "refused":
            return ModelRefused(model="gated", reason="test")
        calls = tuple(ToolCall(f"c{n}", name, "{}") for n, name in enumerate(names))
        return Reply(f"by {attempt.number}", calls, Usage(1, 1, 0, 1))

    def _replies(self, attempt: Attempt) -> int:
        with self.db.read() as tx:
            return sum(m.content == f"by {attempt.number}" for m in messages.of_run_by_id(tx, attempt.run_id))

    def note_ask(self, attempt: Attempt, request: ChatRequest) -> None:
        """A model is asked: by the process that holds the run, for a reply that is not written yet?"""
        with self.db.read() as tx:
            row = tx.execute(select(runs).where(runs.c.id == attempt.run_id)).one()
            log = messages.of_run_by_id(tx, attempt.run_id)
        if attempt.fence is None:
            attempt.fence = row.fence
            self.fences[f"by {attempt.number}"] = row.fence
            self.first_asks.setdefault(attempt.run_id, {})[row.fence] = len(log)
        turn = sum(m.role == Role.ASSISTANT for m in request.messages)
        written = sum(m.role is Role.ASSISTANT for m in log)
        if attempt.fence == row.fence and turn < written:
            self.problems.append(f"once: attempt {attempt.number} asks for turn {turn + 1}, {written} are written")

    def _is_current(self, attempt: Attempt) -> bool:
        with self.db.read() as tx:
            row = tx.execute(select(runs.c.fence, runs.c.status).where(runs.c.id == attempt.run_id)).one()
        return bool(row.fence == attempt.fence and row.status == "running")
