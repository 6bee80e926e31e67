"""first-token: from sending an input to the first word of the answer, over HTTP, and from the model called directly.

An API process, a worker process, Valkey, and a model server that waits 30 ms and then writes 20 words, one each 20 ms.
In turn, 60 times each: a client asks the model itself, streamed, and a client sends a run to a new session and reads
its events. Both keep their connections, and are on loopback. Ours has two requests, and a commit before each thing
that it says.
"""

import json
import statistics
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

from ops.bench import databases
from ops.bench.report import Check, Report, progress, quantile, table
from ops.bench.service import service, start_front
from tests.support.system import System

TIMED, WARM_UP = 60, 10
INPUT = "[delay=0.03] [words=20] [pace=0.02]"
MORE_MS = 20.0


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        with service(kind, TEAM_SESSIONS_TEAMS="tests.support.teams") as running:
            version = databases.server_version(running.db)
            start_front(running)
            times = _measured(running, kind)
        rows = [
            [name, len(ms), *(f"{figure:.1f}" for figure in (statistics.median(ms), quantile(ms, 0.95), max(ms)))]
            for name, ms in times.items()
        ]
        title = f"first-token, {kind} {version}: from sending the input to the first word"
        report.tables.append(table(title, ["asked", "times", "p50 ms", "p95", "max"], rows))
        direct, ours = (statistics.median(ms) for ms in times.values())
        promise = f"first-token {kind}: p50 is at most {MORE_MS:g} ms more than that of the model"
        report.checks.append(Check(promise, f"{ours - direct:.1f} ms more", ours - direct <= MORE_MS))
        report.raw[kind] = times


def _measured(running: System, kind: str) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"the model": [], "Team Sessions": []}
    model = int(running.environment["OPENAI_BASE_URL"].rsplit(":", 1)[1].removesuffix("/v1"))
    api = int(running.url.rsplit(":", 1)[1])
    with closing(HTTPConnection("127.0.0.1", model)) as to_model, closing(HTTPConnection("127.0.0.1", api)) as to_api:
        for n in range(WARM_UP + TIMED):
            progress(f"first-token {kind}: time {n + 1} of {WARM_UP + TIMED}")
            for name, ms in (("the model", _of_model(to_model)), ("Team Sessions", _of_run(to_api, running.key))):
                if n >= WARM_UP:
                    times[name].append(ms)
    return times


def _of_model(connection: HTTPConnection) -> float:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": INPUT}]}
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return _until(connection.getresponse(), b'"content": "', b'"content":"', began=began)


def _of_run(connection: HTTPConnection, key: str) -> float:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = {"team": "plain", "input": INPUT}
    began = time.perf_counter()
    connection.request("POST", "/v1/runs", json.dumps(body), headers)
    run = json.loads(connection.getresponse().read())
    connection.request("GET", f"/v1/runs/{run['id']}/events", headers=headers)
    return _until(connection.getresponse(), b"event: message.delta", began=began)


def _until(answer: HTTPResponse, *signs: bytes, began: float) -> float:
    """Return the milliseconds until a line with one of these signs; the rest of the answer is read."""
    ms = 0.0
    while line := answer.readline():
        if not ms and any(sign in line for sign in signs):
            ms = (time.perf_counter() - began) * 1000
    assert ms, answer.status
    return ms
