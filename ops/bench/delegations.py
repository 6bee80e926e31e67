"""delegations: three delegations of one reply against one.

In one process, each on its own database: a leader that answers at once, members that take 800 ms. Interleaved: one
run with one delegation, one with three in parallel, 15 times each. The ratio of the medians is what counts.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.bench import databases
from ops.bench.report import Check, Report, progress, table
from worker.agent import Agent
from worker.db import Db
from worker.domain import ChatRequest, Reply, Role, ToolCall, Usage
from worker.models.scripted import ScriptedModel
from worker.team import Team

ROUNDS, MEMBERS, MEMBER_S, AT_MOST = 15, 3, 0.8, 1.15


@dataclass(frozen=True, slots=True)
class Leader:
    """Delegates once to each member, then answers."""

    members: int
    id: str = "leader"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Answer at once."""
        if request.messages[-1].role == Role.TOOL:
            return Reply("done", (), Usage(1))
        tasks = [json.dumps({"member_id": f"m{n}", "task": "work"}) for n in range(self.members)]
        calls = [ToolCall(f"c{n}", "delegate_task_to_member", task) for n, task in enumerate(tasks)]
        return Reply("", tuple(calls), Usage(1))


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        with databases.new_database(kind) as url:
            times = _times(Db(url), kind)
        single, three = (statistics.median(values) for values in times.values())
        rows = [[name, f"{statistics.median(v):.0f}", f"{min(v):.0f}", f"{max(v):.0f}"] for name, v in times.items()]
        report.tables.append(table(f"delegations, {kind}: one run", ["what", "median ms", "min", "max"], rows))
        promise = f"delegations {kind}: three in parallel take at most {AT_MOST} times one"
        report.checks.append(Check(promise, f"{three / single:.3f}", three / single <= AT_MOST))
        report.raw[kind] = times


def _times(db: Db, kind: str) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"one delegation": [], "three in parallel": []}
    for n in range(-1, ROUNDS):  # one to warm up
        for name, count in zip(times, (1, MEMBERS), strict=True):
            progress(f"delegations {kind}: round {n + 1} of {ROUNDS}, {name}")
            workers = [Agent(id=f"m{m}", model=ScriptedModel(["did it"], delay_s=MEMBER_S)) for m in range(count)]
            team = Team(id="t", model=Leader(count), members=workers, db=db)
            began = time.perf_counter()
            team.run("go", session_id=f"{name}-{n}")
            if n >= 0:
                times[name].append((time.perf_counter() - began) * 1000)
    db.close()
    return times
