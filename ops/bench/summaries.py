"""summaries: what a run waits longer where its session is summarised (promise 7), and how long Agno's callers wait.

The whole service: API, a worker for runs, one for summaries, Valkey, a run model that answers at once, a summary model
that takes 500 ms. A client sends runs one after the other, turning through 21 sessions, to three teams in turn, in
blocks that rotate: one with summaries, due at 14 messages, so that a refresh is nearly always in flight, and two
without. A block begins when no refresh is left, so those without have the machine for themselves.

With a summary a context holds more history: all behind the summary, and the last 3 runs that it covers. What more
history costs (in the client of the model, mostly) is no waiting: so the target compares with `as long`, a team without
summaries that is sent as many messages. The ratio to `same`, with the last 3 runs only, stands beside it.

Agno: `Team.run` in a script of its own, with enable_session_summaries on and off in turn, same models, same database.
"""

import statistics
from collections.abc import Sequence
from itertools import count

from ops.bench import databases
from ops.bench.peers import environment
from ops.bench.report import Check, Report, progress, spread, table
from ops.bench.service import (
    Call,
    Timed,
    one_run,
    service,
    start_front,
    start_summaries,
    summary_calls,
    wait_for_summaries,
)
from tests.support.model import model_server
from tests.support.system import System

TEAMS = {"same": "off, last 3 runs", "as-long": "off, as long", "on": "on"}
DUE_RUNS, SESSIONS = 7, 21  # so that they are due one after the other, seven runs apart
BLOCKS, BLOCK = 18, 35
REFRESHES_AT_LEAST = 50
AT_MOST = 1.05
AGNO_RUNS = 40

Times = dict[str, list[Timed]]


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database, ours and then Agno."""
    for kind in kinds:
        with service(kind, TEAM_SESSIONS_SUMMARY_DUE_MESSAGES=str(2 * DUE_RUNS)) as running:
            times = _blocks(running, kind)
            calls = summary_calls(running)
            sizes = {team: _context_size(running, runs) for team, runs in times.items()}
        _add(report, kind, times, sizes, calls)
        _add_agno(report, kind)


def _blocks(running: System, kind: str) -> Times:
    client = start_front(running)
    start_summaries(running)
    times: Times = {team: [] for team in TEAMS}
    for team in TEAMS:
        for session in range(SESSIONS):
            progress(f"summaries {kind}: history of {SESSIONS} sessions, team {team}")
            for _ in range(session % DUE_RUNS + 1):
                one_run(client, team, f"{team}-{session}")
    turns = {team: count() for team in TEAMS}
    for block in range(BLOCKS):
        progress(f"summaries {kind}: block {block + 1} of {BLOCKS}")
        first = block % len(TEAMS)
        for team in [*TEAMS][first:] + [*TEAMS][:first]:
            wait_for_summaries(running)
            times[team] += [one_run(client, team, f"{team}-{next(turns[team]) % SESSIONS}") for _ in range(BLOCK)]
    wait_for_summaries(running)
    return times


def _context_size(running: System, runs: Sequence[Timed]) -> float:
    """Return how many characters the contexts of these runs had, on average. No other run was executed beside them."""
    requests = [line for line in running.journal() if line["event"] == "asked" and not line["summary"]]
    sizes: list[int] = [line["size"] for run in runs for line in requests if run.accepted < line["at"] < run.completed]
    return statistics.mean(sizes)


def _add(report: Report, kind: str, times: Times, sizes: dict[str, float], calls: Sequence[Call]) -> None:
    rows = []
    for team, what in TEAMS.items():
        p50 = statistics.median(run.ms for run in times[team])
        client = statistics.median(run.client_ms for run in times[team])
        figures = [p50, *spread([run.ms for run in times[team]]), client]
        rows.append([what, len(times[team]), *(f"{figure:.1f}" for figure in figures), f"{sizes[team]:.0f}"])
    columns = ["summaries", "runs", "p50 ms", "lowest p50 of a quarter", "highest", "by client", "context, characters"]
    report.tables.append(table(f"summaries, {kind}: accepted to completed", columns, rows))
    beside = _ratio(times["on"], times["same"])
    during = sum(any(call.overlaps(run.accepted, run.completed) for call in calls) for run in times["on"])
    report.tables.append(
        f"summaries, {kind}: p50 on : off with the last 3 runs only = {beside:.3f}; "
        f"beside {during} of the {len(times['on'])} runs a refresh was in flight"
    )

    ratio = _ratio(times["on"], times["as-long"])
    quarters = [_ratio(*pair) for pair in zip(_quarters(times["on"]), _quarters(times["as-long"]), strict=True)]
    result = f"{ratio:.3f} (quarters of the blocks: {min(quarters):.3f} to {max(quarters):.3f})"
    promise = f"summaries {kind}: p50 on : off, with as long a context, is at most {AT_MOST}"
    report.checks.append(Check(promise, result, ratio <= AT_MOST))
    overlapping = sum(any(call.overlaps(run.accepted, run.completed) for run in times["on"]) for call in calls)
    promise = f"summaries {kind}: at least {REFRESHES_AT_LEAST} refreshes were in flight beside measured runs"
    report.checks.append(Check(promise, str(overlapping), overlapping >= REFRESHES_AT_LEAST))
    report.raw[kind] = {"ms": {team: [run.ms for run in runs] for team, runs in times.items()}, "context": sizes}


def _ratio(these: Sequence[Timed], those: Sequence[Timed]) -> float:
    return statistics.median(run.ms for run in these) / statistics.median(run.ms for run in those)


def _quarters(runs: Sequence[Timed]) -> list[Sequence[Timed]]:
    size = len(runs) // 4
    return [runs[n * size : (n + 1) * size] for n in range(4)]


def _add_agno(report: Report, kind: str) -> None:
    agno = f"Agno {environment.version('agno')}"
    progress(f"summaries {kind}: {agno}")
    with model_server() as model, databases.new_database(kind) as url:
        database = "agno.db" if kind == "sqlite" else url.replace("postgresql:", "postgresql+psycopg:")
        models = {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none", "SUMMARY_MODEL": "rules[delay=0.5]"}
        settings = {"DATABASE": database, "RUNS": str(AGNO_RUNS), **models}
        times = environment.run(environment.python("agno"), "summaries.py", environment=settings)
    off, on = (statistics.median(times[name]) for name in ("off", "on"))
    rows = [["off", len(times["off"]), f"{off:.1f}"], ["on", len(times["on"]), f"{on:.1f}"]]
    rows.append(["ratio", "", f"{on / off:.1f}"])
    report.tables.append(table(f"summaries, {kind}: {agno}, one Team.run", ["summaries", "runs", "p50 ms"], rows))
    report.raw[f"{kind}, {agno}"] = times
