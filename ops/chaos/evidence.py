"""The evidence for the checker: rows, the journals of model and tools, and the workload's record."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from ops.chaos.audit import audit
from ops.chaos.book import Book
from ops.chaos.system import Fleet
from worker.domain import Message
from worker.store import messages
from worker.store.tables import runs, sessions, summaries, summary_jobs, tool_starts

UNEXPECTED = "on an unexpected error"  # the workers' log message for a fault of the product


@dataclass(frozen=True, slots=True)
class Evidence:
    """Rows by their keys; `written` is the history of each session, `fences` the attempt that wrote each message."""

    sessions: Mapping[int, Any]
    runs: Mapping[str, Any]  # in the order of session and position
    written: Mapping[int, Sequence[Message]]
    logs: Mapping[str, Sequence[Message]]  # the same of each run
    summaries: Mapping[int, Sequence[Any]]
    jobs: Mapping[int, Any]
    starts: set[str]
    audit: Sequence[Any]
    fences: Mapping[tuple[str, int], int]  # run, seq → fence
    calls: Sequence[dict[str, Any]]
    effects: Sequence[dict[str, Any]]
    hits: Sequence[dict[str, Any]]
    errors: Sequence[str]
    book: Book

    def log(self, run_id: str) -> Sequence[Message]:
        """Return the messages of a run, in order."""
        return self.logs.get(run_id, ())


def read(fleet: Fleet, book: Book) -> Evidence:
    """Read all of it, when nothing changes any more."""
    with fleet.db.read() as tx:
        session_rows = {row.pk: row for row in tx.execute(select(sessions))}
        run_rows = {row.id: row for row in tx.execute(select(runs).order_by(runs.c.session_pk, runs.c.position))}
        written = {pk: messages.page(tx, session_pk=pk, after_seq=0, limit=1_000_000) for pk in session_rows}
        versions: dict[int, list[Any]] = defaultdict(list)
        for row in tx.execute(select(summaries).order_by(summaries.c.session_pk, summaries.c.version)):
            versions[row.session_pk].append(row)
        jobs = {row.session_pk: row for row in tx.execute(select(summary_jobs))}
        starts = set(tx.execute(select(tool_starts.c.idempotency_key)).scalars())
        notes = tx.execute(select(audit).order_by(audit.c.id)).all()
    writes = (note for note in notes if note.what == "write")
    fences = {(note.key, seq): note.fence for note in writes for seq in range(note.first, note.last + 1)}
    lines = ((log.stem, line) for log in fleet.directory.glob("*.log") for line in log.read_text().splitlines())
    errors = [f"{name}: {line[:300]}" for name, line in lines if UNEXPECTED in line]
    logs: dict[str, list[Message]] = defaultdict(list)
    for message in (m for history in written.values() for m in history):
        logs[message.run_id].append(message)
    return Evidence(
        sessions=session_rows,
        runs=run_rows,
        written=written,
        logs=logs,
        summaries=versions,
        jobs=jobs,
        starts=starts,
        audit=notes,
        fences=fences,
        calls=fleet.system.journal(),
        effects=fleet.lines("effects.jsonl"),
        hits=fleet.all_hits(),
        errors=errors,
        book=book,
    )
