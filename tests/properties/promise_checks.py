"""What must hold after each step of the state machine for promises 1 to 4: read the rows, and say what they break."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import Connection

from worker.domain import Role, RunOrder, Status, open_calls
from worker.domain.pending import key_of
from worker.store import Database, messages, pending_calls


class Checks(RuleBasedStateMachine):
    """The checks, and what the machine notes for them. `db` is set by the test that runs it."""

    db: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[str, RunOrder] = {}
        self.effects: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()  # effects of the tool that asks, by idempotency key
        self.problems: list[str] = []
        self.ended: dict[str, tuple[str, str | None]] = {}
        self.fences: dict[str, int] = {}  # text of an attempt's replies → its fence
        self.first_asks: dict[str, dict[int, int]] = {}  # run → fence → messages written when it first asked

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Read several statements as of one moment: `Database.read` reads each of its own on Postgres."""
        if self.db.is_sqlite:
            with self.db.read() as tx:
                yield tx
        else:
            with self.db.engine.connect().execution_options(isolation_level="REPEATABLE READ") as tx:
                yield tx

    def check_session(self, tx: Connection, session: Any, rows: list[Any]) -> None:
        say = self.problems.append
        if [r.position for r in rows] != list(range(1, len(rows) + 1)):
            say("order: positions have gaps")
        unfinished = [r for r in rows if not Status(r.status).terminal]
        if session.head_run_id != (unfinished[0].id if unfinished else None):
            say("order: the head is not the oldest unfinished run")
        if any(r.status == "running" or r.attempt for r in unfinished[1:]):
            say("order: a run was started before an earlier one had ended")
        log = messages.page(tx, session_pk=session.pk, after_seq=0, limit=10_000)
        if [m.seq for m in log] != list(range(1, session.last_seq + 1)):
            say("once: seqs have gaps or doubles")
        started = [r for r in rows if r.first_seq is not None]
        if [m.run_id for m in log] != [r.id for r in started for _ in range(r.first_seq, r.last_seq + 1)]:
            say("order: the messages of a run are not contiguous, or not in the order of acceptance")
        for row in rows:
            own = [m for m in log if m.run_id == row.id]
            self._check_run(row, own)
            self._check_decisions(row, own, pending_calls.of_run(tx, row.id))

    def _check_decisions(self, row: Any, log: list[Any], calls: list[Any]) -> None:
        say = self.problems.append
        approved = {key_of(call.id) for call in calls if call.decision == "approve"}
        made = {key: count for key, count in self.asked.items() if key.startswith(f"{row.id}:")}
        if not made.keys() <= approved:
            say("asked: a call had an effect without an approval")
        if any(count > 1 for count in made.values()):
            say("asked: a call took effect twice")
        unanswered = {f"{row.id}:{reply.seq}:{index}" for reply, index, _call in open_calls(log)}
        waiting = [call for call in calls if key_of(call.id) in unanswered]
        if row.paused_at is not None and not any(call.is_open for call in waiting):
            say("asked: a paused run waits for nothing")
        if row.paused_at is not None and any(not call.is_open for call in waiting):
            say("asked: a run is paused with a decision")
        if row.paused_at is not None and row.lease_owner is not None:
            say("asked: a paused run holds a lease")

    def _check_run(self, row: Any, log: list[Any]) -> None:
        say = self.problems.append
        status = Status(row.status)
        if log and (log[0].role is not Role.USER or log[0].content != self.orders[row.id].input):
            say("kept: a run does not begin with its input")
        if sum(m.role is Role.USER for m in log) > 1:
            say("once: an input is written twice")
        replies = [m.seq for m in log if m.role is Role.ASSISTANT]
        results = [(m.tool_call_id, sum(seq < m.seq for seq in replies)) for m in log if m.role is Role.TOOL]
        if len(set(results)) < len(results):
            say("once: a tool result is written twice")
        if status.terminal and open_calls(log):
            say("once: a terminal run has a tool call without a result")
        if row.model_calls != sum(m.role is Role.ASSISTANT for m in log):
            say("once: usage and replies differ")
        if any(n > 1 for n in self.effects.values()):
            say("once: an unsafe tool was repeated")
        ended = self.ended.setdefault(row.id, (row.status, row.output)) if status.terminal else None
        if ended is not None and ended != (row.status, row.output):
            say("zombie: a terminal status changed")
        for index, message in enumerate(log, start=1):
            if message.role is Role.ASSISTANT:
                fence = self.fences[message.content]
                asks = self.first_asks[row.id].items()
                if any(other > fence and written < index for other, written in asks):
                    say("zombie: a process wrote after another had claimed its run")
