"""Summaries for tests: runs without executing them, a model that answers on command, and the rows."""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update

from tests.support.life import accept
from worker.domain import (
    ChatModel,
    ChatRequest,
    Claim,
    Dispatch,
    Draft,
    Due,
    Reply,
    Role,
    SessionSummaryManager,
    Status,
    SummaryDraft,
    ToolCall,
    Usage,
)
from worker.events.publish import Listeners, RunStream
from worker.loop.definition import Definition
from worker.process.patience import Patience, at_once
from worker.runs.claim import claim_head
from worker.runs.finish import Ending, Head, end_head
from worker.runs.journal import RunJournal
from worker.store import Database, summaries, summary_jobs
from worker.store.columns import db_time
from worker.store.tables import sessions
from worker.store.tables import summaries as versions_table
from worker.store.tables import summary_jobs as jobs_table
from worker.team import Team

PLAIN = Team(id="t").definition
NEVER = Due(1_000_000, 1_000_000_000)
TWO = Due(2, 1_000_000)


def formed(text: str, *topics: str) -> str:
    """Return an answer as the prompt of a summary asks for it."""
    return json.dumps({"summary": text, "topics": topics})


def begin(
    db: Database, text: str = "hello", *, session: str = "s", due: Due | None = NEVER, definition: Definition = PLAIN
) -> Claim:
    """Accept a run and claim it."""
    run_id = accept(db, text, session=session).run.id
    claim = claim_head(db, run_id, owner="me", ttl_s=60, definition=definition, due=due)
    assert isinstance(claim, Claim), claim
    return claim


def write(db: Database, claim: Claim, *drafts: Draft) -> None:
    """Write messages of a claimed run, which continues."""
    stream = RunStream(Listeners(None), claim.run_id, claim.fence)
    RunJournal(Patience(db, at_once), claim, stream, ttl_s=60).write(drafts)


def finish(db: Database, claim: Claim, *drafts: Draft, status: Status = Status.COMPLETED) -> tuple[Dispatch, ...]:
    """End a claimed run with these messages; return the dispatches of refreshes that this made due."""
    head = Head(
        claim.run_id, claim.session_pk, claim.session_id, claim.team, claim.position, claim.fence, Status.RUNNING
    )
    with db.write() as tx:
        _, dispatches = end_head(tx, head, Ending(status, drafts))
    return tuple(dispatch for dispatch in dispatches if dispatch.queue == "summaries")


def answer(text: str = "answer") -> Draft:
    """A leader's last message."""
    return Draft(Role.ASSISTANT, "t", text)


def called(*results: str) -> list[Draft]:
    """A reply that calls a tool once for each result, and the results; the ids are the same each time."""
    calls = tuple(ToolCall(f"call_{n}", "look", "{}") for n in range(len(results)))
    results_ = [Draft(Role.TOOL, "look", text, (), f"call_{n}") for n, text in enumerate(results)]
    return [Draft(Role.ASSISTANT, "t", "", calls), *results_]


def converse(db: Database, runs: int, *, session: str = "s", due: Due | None = NEVER, turns: int = 0) -> int:
    """Complete *runs* runs, each with an input, *turns* calls with results, and an answer; return the session's key.

    The texts name their position: `input 0`, `result 0.0`, `answer 0`.
    """
    for n in range(runs):
        claim = begin(db, f"input {n}", session=session, due=due)
        drafts = [draft for turn in range(turns) for draft in called(f"result {n}.{turn}")]
        finish(db, claim, *drafts, answer(f"answer {n}"))
    return claim.session_pk


def draft(seq: int, position: int, *, text: str = "t", pieces: int = 1) -> SummaryDraft:
    """Return a draft that covers the history through the message *seq* of the run at *position*."""
    return SummaryDraft("m", "h", 0, text, covers_through_seq=seq, covers_position=position, pieces=pieces)


def cover(db: Database, session_pk: int, *, seq: int, position: int, text: str = "so far") -> None:
    """Write the next version, which covers the history through the message *seq* of the run at *position*."""
    with db.write() as tx:
        base = summaries.base(tx, session_pk)
        assert base is not None
        new = draft(seq, position, text=text)
        assert summaries.cover(tx, session_pk, base, new)
        summaries.add(tx, session_pk, base.version + 1, new, keep=100)


def session_row(db: Database, session_pk: int) -> Any:
    """Return the row of a session."""
    with db.read() as tx:
        return tx.execute(select(sessions).where(sessions.c.pk == session_pk)).one()


def jobs(db: Database) -> list[Any]:
    """Return the rows of all requested refreshes."""
    with db.read() as tx:
        return list(tx.execute(select(jobs_table).order_by(jobs_table.c.session_pk)))


def versions(db: Database, session_pk: int) -> list[Any]:
    """Return the kept versions of a session, oldest first."""
    in_session = select(versions_table).where(versions_table.c.session_pk == session_pk)
    with db.read() as tx:
        return list(tx.execute(in_session.order_by(versions_table.c.version)))


def covered(db: Database, session_pk: int) -> int:
    """Return the last message that the current summary covers."""
    with db.read() as tx:
        return summaries.current(tx, session_pk).covers_through_seq


def time_passes(db: Database) -> None:
    """Let leases expire and waits end, so that lost dispatches are sent again."""
    with db.write() as tx:
        tx.execute(update(jobs_table).where(jobs_table.c.held_until.is_not(None)).values(held_until=db_time(-1.0)))
        tx.execute(update(jobs_table).where(jobs_table.c.send_at.is_not(None)).values(send_at=db_time(-1.0)))


def bells(db: Database, *teams: str) -> list[int]:
    """Return the sessions whose refresh a worker that serves *teams* would send now."""
    with db.write() as tx:
        return [int(d.ids["session_pk"]) for d in summary_jobs.take_ready(tx, teams=teams, limit=100)]


def team(model: ChatModel, prompt: str | None = None, *, id: str = "t") -> Team:
    """A team whose summaries a model makes."""
    manager = SessionSummaryManager(model=model, session_summary_prompt=prompt)
    return Team(id=id, session_summary_manager=manager, enable_session_summaries=True)


def on_thread(work: Callable[[], object]) -> "Future[object]":
    """Call *work* on another thread."""
    pool = ThreadPoolExecutor(1)
    future: Future[object] = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def condensed_messages(request: ChatRequest) -> list[str]:
    """Return the texts that a model was sent to condense, by position: `input 0`, `result 0.0`, `answer 0`."""
    new_messages = request.messages[1].content.split("The messages that follow it:\n", 1)[1]
    return re.findall(r"(?:input|result|answer) [\d.]+", new_messages)


def long_history(db: Database, *, pieces: int, begin_at: int = 0, due: Due | None = TWO) -> int:
    """Complete runs that fill a piece of 100 tokens each."""
    for n in range(begin_at, begin_at + pieces):
        claim = begin(db, f"input {n} {'x' * 200}", due=due)
        finish(db, claim, answer(f"answer {n} {'y' * 100}"))
    return claim.session_pk


@dataclass
class HeldModel:
    """A model that waits until `answers` holds an answer. `requests` keeps its requests; `calls` counts them."""

    id: str = "door"
    requests: list[ChatRequest] = field(default_factory=list)
    calls: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    answers: list[str | BaseException] = field(default_factory=list)

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        self.requests.append(request)
        self.calls.release()
        while not self.answers:
            await asyncio.sleep(0.001)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return Reply(answer, (), Usage(1, 1, 0, 1))

    def wait_until_called(self) -> None:
        """Return when the model is called, once for each call."""
        assert self.calls.acquire(timeout=120), "the model is not called"
