"""What must hold of a session's summaries after each step: read from the rows, and from what the models were told."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select

from tests.properties.attempts import Attempt
from tests.support.outcomes import refresh
from worker.domain import ChatRequest, Claim, Due, Message, Role, Status, open_calls
from worker.loop.conversation import History
from worker.loop.definition import Definition
from worker.runs.session_history import SessionHistory
from worker.store import Database, messages
from worker.store.tables import runs, sessions, summaries, summary_jobs
from worker.summaries.condense import prompt_hash

TOKEN = re.compile(r"m\d+;")  # every message has one of its own
KEPT = 2  # versions that the settings keep
PLENTY, LITTLE = 1_000_000, 60  # tokens


@dataclass
class Refreshing(Attempt):
    """One delivery of a refresh. `taken` names the job that it has: its fence, and when it was asked for."""

    session_pk: int = 0
    process: int = 0
    prompt: str = ""
    taken: tuple[Any, ...] = ()

    def work(self) -> str:
        return refresh(self.runtime, self.session_pk, "t")


@dataclass(frozen=True)
class Asked:
    """What a model was asked, and by whom."""

    attempt: Refreshing
    request: ChatRequest
    number: int = 0  # counts what models are asked
    before: "Asked | None" = None  # what was asked for the text that it goes on with

    @property
    def pieces(self) -> "list[Asked]":
        """All that its answer is made of, in order."""
        return [*(self.before.pieces if self.before else []), self]

    @property
    def told(self) -> list[str]:
        """The messages that it was given to condense."""
        return TOKEN.findall(self.request.messages[1].content.split("that follow it:\n", 1)[1])


@dataclass
class RequestedRebuild:
    """A rebuild that was requested and is not done yet."""

    finished_seq: int  # when it was asked for
    asks: int  # how much models had been asked until then
    failed: bool = False  # for good: it may be given up


@dataclass
class Story:
    """What the machine knows of one session."""

    claim: Claim  # of its newest run that was begun
    unfinished: bool = False
    chain: list[Asked] = field(default_factory=list)  # what was asked last for each stored version
    covers: int = 0  # how far the newest of them went when it was written
    holder: Refreshing | None = None  # has the lease of the refresh, which has not run out
    taken: tuple[Any, ...] = ()  # the job, as it was taken last
    rebuild: RequestedRebuild | None = None


@dataclass(frozen=True)
class Rows:
    """One session as the database has it. `heard`: what may be in summaries and contexts, oldest first."""

    session: Any
    runs: list[Any]
    heard: list[Message]
    finished_seq: int
    versions: list[Any]
    job: Any


def read(db: Database, session_pk: int) -> Rows:
    """Read a session."""
    with db.read() as tx:
        session = tx.execute(select(sessions).where(sessions.c.pk == session_pk)).one()
        of_session = select(runs).where(runs.c.session_pk == session_pk).order_by(runs.c.position)
        rows = list(tx.execute(of_session))
        log = messages.page(tx, session_pk=session_pk, after_seq=0, limit=10_000)
        kept = select(summaries).where(summaries.c.session_pk == session_pk).order_by(summaries.c.version)
        versions = list(tx.execute(kept))
        job = tx.execute(select(summary_jobs).where(summary_jobs.c.session_pk == session_pk)).one_or_none()
    ended = [r for r in rows if Status(r.status).terminal and r.first_seq is not None]
    heard = {r.id for r in ended if not r.excluded}
    said = [m for m in log if m.delegation is None and m.run_id in heard]
    return Rows(session, rows, said, max((r.last_seq for r in ended), default=0), versions, job)


def marks(db: Database, session_pks: Iterable[int]) -> dict[int, tuple[Any, ...]]:
    """Return of each session what changes whenever something happens to it that could break a promise."""
    joined = sessions.outerjoin(summary_jobs, summary_jobs.c.session_pk == sessions.c.pk)
    now = (sessions.c.last_seq, sessions.c.run_count, sessions.c.head_run_id, sessions.c.summary_version)
    held = (summary_jobs.c.fence, summary_jobs.c.lease_owner, summary_jobs.c.failures)
    job = (sessions.c.covers_through_seq, *held, summary_jobs.c.rebuild, summary_jobs.c.send_at.is_(None))
    mine = select(sessions.c.pk, *now, *job).select_from(joined).where(sessions.c.pk.in_(list(session_pks)))
    with db.read() as tx:
        return {row.pk: tuple(row) for row in tx.execute(mine)}


def token(message: Message) -> str:
    """Return what a message is known by."""
    return TOKEN.findall(message.content)[0]


def problems(db: Database, session_pk: int, story: Story, definition: Definition, due: Due) -> Iterator[str]:
    """Yield what does not hold, each with the promise that it breaks."""
    rows = read(db, session_pk)
    yield from _of_chain(rows, story)
    yield from _of_job(rows, story, due)
    yield from _of_rebuild(rows, story)
    yield from _of_context(db, rows, story, definition)


def _of_chain(rows: Rows, story: Story) -> Iterator[str]:
    """Each message went into one piece, in order, and into none before its run had ended."""
    covers = rows.session.covers_through_seq
    told = [name for asked in (story.chain[-1].pieces if story.chain else []) for name in asked.told]
    heard = [token(m) for m in rows.heard]
    if strangers := set(told) - set(heard):
        yield f"unfinished: a stored piece holds {strangers}, of a run that has not ended or was rolled back"
    if told != [token(m) for m in rows.heard if m.seq <= covers] and not strangers:
        yield f"once: the pieces up to {covers} hold {told} of {heard}"
    if rows.session.summary_version != len(story.chain):
        yield "once: the versions have a gap"
    wanted = [(n, text_of(asked), prompt_hash(asked.attempt.prompt)) for n, asked in enumerate(story.chain, start=1)][
        -KEPT:
    ]
    if [(v.version, v.text, v.prompt_hash) for v in rows.versions] != wanted:
        yield "once: the kept versions are not the newest"
    if open_calls([m for m in rows.heard if m.seq <= covers]) and covers < rows.finished_seq:
        yield f"torn: the summary ends at {covers}, between a call and its result"


def text_of(asked: Asked) -> str:
    """Return what the model answered."""
    return f"summary {asked.number}.{len(asked.request.messages[1].content)}.{'.'.join(asked.told)}"


def of_version(story: Story, asked: Asked, *, covers_through_seq: int, still_requested: bool) -> Iterator[str]:
    """Yield what does not hold of a new version, and note that a rebuild is made, if it is one.

    *still_requested*: the row requests a rebuild, so this version is none. It can look like one: the first version of
    all, whose model was asked again after the request, since its first answer was empty.
    """
    pieces, rebuild = asked.pieces, story.rebuild
    is_first = asked.before is None and not story.chain
    if rebuild is not None and pieces[0].number > rebuild.asks and not (is_first and still_requested):
        story.rebuild = None
        if covers_through_seq < rebuild.finished_seq:
            yield f"less: a rebuild covers {covers_through_seq}; {rebuild.finished_seq} was finished at its request"
        if len({piece.attempt.prompt for piece in pieces}) > 1:
            yield "mixed: a rebuild is made by two prompts"
    elif asked.before is not (story.chain[-1] if story.chain else None):
        yield "once: a version is not built on the one before it"
    if covers_through_seq < story.covers:
        yield f"less: a version covers {covers_through_seq}, and {story.covers} was covered"
    story.covers = covers_through_seq
    story.chain.append(asked)


def _of_job(rows: Rows, story: Story, due: Due) -> Iterator[str]:
    """A refresh that is due is wanted; who makes it is not disturbed by those who made it before."""
    if rows.finished_seq - rows.session.covers_through_seq >= due.messages and rows.job is None:
        yield "due: the threshold is passed, and no refresh is wanted"
    holder = story.holder
    if holder is not None and holder.alive:
        job = rows.job
        if job is None or (job.fence, job.requested_at, job.lease_owner) != (*holder.taken, holder.runtime.owner):
            yield "zombie: a refresh under way has lost its job, and its lease had not run out"


def _of_rebuild(rows: Rows, story: Story) -> Iterator[str]:
    """One that was asked for is made, unless it failed for good."""
    if story.rebuild is None:
        return
    if rows.job is not None and rows.job.rebuild:
        story.rebuild.failed = rows.job.send_at is None
        return
    if not story.rebuild.failed and any(m.seq <= story.rebuild.finished_seq for m in rows.heard):
        yield "lost: a rebuild is not wanted any more, and was not made"
    story.rebuild = None


def _of_context(db: Database, rows: Rows, story: Story, definition: Definition) -> Iterator[str]:
    """The next run sees the summary and all behind it, once."""
    after = {"first_seq": rows.session.last_seq + 1, "position": rows.session.run_count + 1}
    claim = story.claim if story.unfinished else replace(story.claim, **after)
    covers, past = rows.session.covers_through_seq, SessionHistory(db, claim)
    whole, some = past.history(definition, context_tokens=PLENTY), past.history(definition, context_tokens=LITTLE)
    shown, part = ([m.seq for m in history.messages] for history in (whole, some))
    if [seq for seq in shown if seq > covers] != [m.seq for m in rows.heard if m.seq > covers] or whole.missing:
        yield f"gap: behind the summary up to {covers} the context shows {shown}"
    if shown != sorted(set(shown)) or set(shown) - {m.seq for m in rows.heard}:
        yield f"gap: the context shows {shown}: twice, or what was rolled back, or a member's"
    last = [r for r in rows.runs if Status(r.status).terminal and not r.excluded and r.first_seq is not None]
    if {m.seq for r in last[-definition.history_runs :] for m in rows.heard if m.run_id == r.id} - set(shown):
        yield f"gap: the last runs are not all among {shown}"
    if whole.summary != (text_of(story.chain[-1]) if story.chain else ""):
        yield "gap: the context has another summary than the current one"
    begins = part[0] if part else claim.first_seq
    if shown[len(shown) - len(part) :] != part:
        yield "gap: what is left of a cut context is not its end"
    if any(covers < m.seq < begins for m in rows.heard) and some.missing != (covers + 1, begins - 1):
        yield f"gap: the context begins at {begins}, the summary ends at {covers}, and {some.missing} is named"
    if any(_is_torn(history) for history in (whole, some)):
        yield "torn: the context parts a call from its result"


def _is_torn(history: History) -> bool:
    known: set[str] = set()
    for message in history.messages:
        if message.role is not Role.TOOL:
            known = {call.id for call in message.tool_calls}
        elif message.tool_call_id not in known:
            return True
    return bool(open_calls(list(history.messages)))
