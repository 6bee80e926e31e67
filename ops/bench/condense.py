"""condense: the prompts of a refresh in sessions of 10, 100, 1,000 and 10,000 runs (promise 7), and Agno's.

The whole service, with two workers for summaries. Sessions are filled with copies of a run that was really executed:
input and answer of 1,000 characters each; the summaries' model answers 400 words after 20 ms.

First each session gets its first refresh over an existing history. In the largest one the worker
that makes it is killed (kill -9) in the middle, and the other continues when the lease (2 s here) has expired. The
last line of a prompt says where its piece ends; the versions in the database, all kept, must end at the same messages.
Then each session takes 20 runs more, which make a refresh due, and the sizes of its prompts are compared.

Agno: a session of 500 such runs; the prompts of the summaries that are made at its 10th, 100th and 500th.
"""

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from subprocess import Popen

from sqlalchemy import select

from ops.bench import fill
from ops.bench.peers import environment
from ops.bench.report import Check, Report, progress, table
from ops.bench.service import Call, one_run, service, start_front, start_summaries, summary_calls, wait_for_summaries
from tests.support.model import model_server
from tests.support.system import System, wait_until
from worker.domain import CHARS_PER_TOKEN
from worker.settings import Settings
from worker.store import messages
from worker.store.tables import sessions, summaries, summary_jobs
from worker.summaries import condense, due

SIZES, AGNO_SIZES = (10, 100, 1_000, 10_000), (10, 100, 500)
NEW_RUNS = 20  # of two messages each: then a summary is due
EQUAL_WITHIN = 1.1
KILLED_AFTER = 150  # pieces
PIECE = Settings.model_fields["summary_piece_tokens"].default * CHARS_PER_TOKEN
AT_MOST = PIECE + condense.TEXT_LIMIT + 2_000  # a piece, the previous summary, and the instructions
SETTINGS = {
    "TEAM_SESSIONS_LEASE_SECONDS": "2",
    "TEAM_SESSIONS_SUMMARY_VERSIONS": "100000",
    "TEAM_SESSIONS_SUMMARY_DUE_TOKENS": "100000",  # so that the number of messages decides
}
TEAM = "long"
INPUT = f"[words=173] {fill.text(988)}"


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database, then Agno, on SQLite."""
    for kind in kinds:
        with service(kind, **SETTINGS) as running:
            client = start_front(running)
            workers = start_summaries(running, 2)
            like = one_run(client, TEAM, "original", input=INPUT).run_id
            first, later = {}, {}
            for size in SIZES:
                progress(f"condense {kind}: a session of {size} runs")
                name, before = f"session-{size}", len(summary_calls(running))
                pk = fill.fill(running.db, like=like, session_id=name, count=size)
                with running.db.write() as tx:
                    due.request(tx, pk, session_id=name, team=TEAM)  # not sent: a sweep finds it
                killed_at = _kill_in_the_middle(running, pk, workers, before) if size == SIZES[-1] else None
                wait_for_summaries(running, timeout_s=600)
                first[size] = summary_calls(running)[before:]
                if killed_at is not None:
                    _check_pieces(report, kind, running, pk, first[size], killed_at)
                progress(f"condense {kind}: {NEW_RUNS} runs more")
                for _ in range(NEW_RUNS):
                    one_run(client, TEAM, name, input=INPUT)
                wait_for_summaries(running)
                later[size] = summary_calls(running)[before + len(first[size]) :]
        _add(report, kind, first, later)
    _add_agno(report)


def _kill_in_the_middle(running: System, pk: int, workers: list[Popen[bytes]], before: int) -> float:
    """Kill the worker that refreshes a session after KILLED_AFTER pieces; return the time."""
    far = before + KILLED_AFTER
    wait_until(lambda: len(summary_calls(running)) > far, description=f"{KILLED_AFTER} pieces", timeout_s=300)
    with running.db.read() as tx:
        owner = tx.execute(select(summary_jobs.c.lease_owner).where(summary_jobs.c.session_pk == pk)).scalar_one()
    worker = next(worker for worker in workers if f":{worker.pid}:" in owner)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    return time.time()


def _check_pieces(report: Report, kind: str, running: System, pk: int, calls: list[Call], killed_at: float) -> None:
    """Compare the pieces that the model was sent with the history and the versions."""
    with running.db.read() as tx:
        last_seq = tx.execute(select(sessions.c.last_seq).where(sessions.c.pk == pk)).scalar_one()
        in_session = select(summaries.c.covers_through_seq).where(summaries.c.session_pk == pk)
        versions = list(tx.execute(in_session.order_by(summaries.c.version)).scalars())
        pages = [messages.page(tx, session_pk=pk, after_seq=after, limit=200) for after in range(0, last_seq, 200)]
    seq_of = {f"{message.role}: {message.content}": message.seq for page in pages for message in page}
    ends = [seq_of[call.last_line] for call in calls]
    after = [call for call in calls if call.sent_at > killed_at]
    twice = [end for end in ends if ends.count(end) > 1]
    in_flight = ends[len(calls) - len(after) - 1]  # the last piece that was asked for before

    where = f"condense {kind}, first refresh of {SIZES[-1]:,} runs"
    went_on = f"{len(after)} calls, the first {after[0].sent_at - killed_at:.1f} s after" if after else "no"
    in_order = ends == sorted(ends) and versions == sorted(set(ends)) and versions[-1] == last_seq
    only_once = twice in ([], [in_flight, in_flight])
    report.checks += [
        Check(
            f"{where}: one worker is killed at piece {len(calls) - len(after)}, the other goes on", went_on, bool(after)
        ),
        Check(f"{where}: pieces in order, to the end", f"{len(versions)} versions, {len(calls)} calls", in_order),
        Check(f"{where}: no piece made twice but the one in flight", f"{len(twice) // 2} twice", only_once),
    ]


def _add(report: Report, kind: str, first: dict[int, list[Call]], later: dict[int, list[Call]]) -> None:
    largest = {size: max(call.size for call in calls) for size, calls in first.items()}
    sizes = {size: [call.size for call in calls] for size, calls in later.items()}
    rows = [
        [f"{size:,}", len(first[size]), f"{largest[size]:,}", len(sizes[size]), f"{sum(sizes[size]):,}"]
        for size in SIZES
    ]
    columns = [
        "runs in session",
        "calls of the first refresh",
        "largest prompt",
        f"calls, {NEW_RUNS} runs later",
        "size",
    ]
    report.tables.append(table(f"condense, {kind}: prompts of refreshes, in characters", columns, rows))
    largest_prompt = max(largest.values())
    promise = f"condense {kind}: no prompt of a first refresh is larger than {AT_MOST:,}"
    report.checks.append(Check(promise, f"{largest_prompt:,}", largest_prompt <= AT_MOST))
    ratio = max(map(sum, sizes.values())) / min(map(sum, sizes.values()))
    promise = (
        f"condense {kind}: what {NEW_RUNS} new runs send is equal within {EQUAL_WITHIN}, whatever the session holds"
    )
    report.checks.append(Check(promise, f"{ratio:.3f}", ratio <= EQUAL_WITHIN))
    report.raw[kind] = {"first": {size: [call.size for call in calls] for size, calls in first.items()}, "later": sizes}


def _add_agno(report: Report) -> None:
    agno = f"Agno {environment.version('agno')}"
    progress(f"condense: {agno}")
    with tempfile.TemporaryDirectory(prefix="ts-bench-") as directory:
        journal = Path(directory) / "journal.jsonl"
        with model_server("--journal", str(journal)) as model:
            models = {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none", "SUMMARY_MODEL": "rules[words=400]"}
            settings = {"DATABASE": "agno.db", "INPUT": INPUT, "SIZES": json.dumps(AGNO_SIZES), **models}
            environment.run(environment.python("agno"), "condense.py", environment=settings)
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
    sizes = [line["size"] for line in lines if line["summary"] and line["event"] == "asked"]
    rows = [[f"{runs:,}", f"{size:,}"] for runs, size in zip(AGNO_SIZES, sizes, strict=True)]
    report.tables.append(table(f"condense, {agno}: prompt of a summary", ["runs in session", "size"], rows))
    report.raw[agno] = dict(zip(AGNO_SIZES, sizes, strict=True))
