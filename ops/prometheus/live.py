"""Scrape a running system with a real Prometheus: evaluate the dashboard's queries, have faults fire their alerts.

The rules are those of `alerts.yml` with shorter durations. Exit code 1: Prometheus refused a query, or an alert did not
fire. Queries without a result are listed: nothing of their kind happened.
"""

import json
import re
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from api_stub.client import Client
from tests.support.postgres import PostgresServer
from tests.support.system import ROOT, System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.queue.embedded import free_port

HERE = Path(__file__).parent
DASHBOARD = ROOT / "ops/grafana/dashboards/team-sessions.json"
WORKERS = 3  # processes of `up`: two for runs, one for background work
FIRE_S = 180.0


class Prometheus:
    """A Prometheus on loopback that scrapes one system each second."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> dict[str, Any]:
        """Return the response of the API; the error of a query is one of its fields."""
        address = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:  # the error of a query, or a text while it is still starting
            return {"status": "error", "error": error.read().decode(errors="replace"), "data": {}}
        except OSError as error:
            return {"status": "error", "error": str(error), "data": {}}

    def values(self, query: str) -> list[Any]:
        """Return the result of a query."""
        return list(self.ask("query", query=query)["data"].get("result", []))

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self.ask("alerts")["data"].get("alerts", [])
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def main() -> None:
    """Start everything, and check."""
    postgres, valkey = PostgresServer(), ValkeyServer()
    with tempfile.TemporaryDirectory(prefix="team-sessions-metrics-") as name:
        directory = Path(name)
        also = directory / "also"
        settings = {"TEAM_SESSIONS_TEAMS": "ops.examples.demo_teams"}
        stores = {"database_url": postgres.new_database(), "redis_url": valkey.url}
        with system(directory, **stores, settings=settings, model_options=["--also", str(also)]) as running:
            first = free_port()
            up, client = running.start_up("--metrics-port", str(first), "--concurrency", "20")
            targets = {
                "api": [(directory / "api-url").read_text().strip()],
                "worker": [f"http://127.0.0.1:{first + n}" for n in range(WORKERS)],
            }
            with prometheus(directory, running, targets) as watching:
                ok = _queries(watching, client) & _faults(watching, client, up.pid, also, postgres)
    valkey.close()
    postgres.close()
    sys.exit(0 if ok else 1)


@contextmanager
def prometheus(directory: Path, running: System, targets: dict[str, list[str]]) -> Iterator[Prometheus]:
    """A Prometheus with the rules of alerts.yml, in which a condition has to last for 2 s."""
    rules = re.sub(r"for: \w+", "for: 2s", (HERE / "alerts.yml").read_text())
    (directory / "alerts.yml").write_text(rules)
    jobs = [
        {
            "job_name": f"team-sessions-{job}",
            "authorization": {"credentials_file": str(directory / "api-key")},
            "static_configs": [{"targets": [urllib.parse.urlsplit(url).netloc for url in urls]}],
        }
        for job, urls in targets.items()
    ]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    written = {"global": every, "rule_files": ["alerts.yml"], "scrape_configs": jobs}
    (directory / "prometheus.json").write_text(json.dumps(written))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={directory / 'prometheus.json'}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    process = running.start(
        "prometheus", ["prometheus", *options, f"--web.listen-address={address}"], environment=running.environment
    )
    watching = Prometheus(f"http://{address}")
    wait_until(
        lambda: sum(value["value"][1] == "1" for value in watching.values("up")) == 1 + WORKERS,
        description="all four are scraped",
        timeout_s=120,
    )
    try:
        yield watching
    finally:
        process.terminate()
        process.wait()


def _queries(watching: Prometheus, client: Client) -> bool:
    """Evaluate each query of the dashboard while something happens."""
    _play(client)
    expressions = re.findall(r'"expr": ("(?:[^"\\]|\\.)*")', DASHBOARD.read_text())
    queries = [json.loads(query).replace("$__rate_interval", "1m") for query in expressions]
    time.sleep(5)  # two scrapes after the last run
    refused, empty = [], []
    for query in queries:
        answer = watching.ask("query", query=query)
        if answer["status"] != "success":
            refused.append(f"{query}\n    {answer.get('error')}")
        elif not answer["data"]["result"]:
            empty.append(query)
    print(f"{len(queries)} queries of the dashboard: {len(queries) - len(refused) - len(empty)} answered.")
    print("".join(f"  without a result: {query}\n" for query in empty), end="")
    print("".join(f"  REFUSED: {query}\n" for query in refused), end="", flush=True)
    return not refused


def _play(client: Client) -> None:
    """Execute runs, a failing and a streamed one, a summary and a batch, for longer than a few scrapes."""
    failed = client.enqueue("team", "[fail=400] no", session_id="fails", user_id="u")
    for n in range(8):
        run = client.enqueue("condensed", f"hello {n}", session_id="long", user_id="u")
        list(client.stream(run["id"]))
        client.enqueue("team", "hello [words=5]", session_id=f"s{n}", user_id="u")
        time.sleep(1)
    client.wait(failed["id"])
    client.create_batch("retry_failed")
    client.enqueue("team", "no hurry", session_id="b", user_id="u", priority="background")
    time.sleep(5)


def _faults(watching: Prometheus, client: Client, up: int, also: Path, postgres: PostgresServer) -> bool:
    """Inject one fault after the other; each fires its alert."""
    print(f"firing before: {sorted(watching.firing()) or 'none'}", flush=True)
    also.write_text("[fail=503]")
    for n in range(20):
        client.enqueue("team", "hello", session_id=f"m{n}", user_id="u")
    ok = _fires(watching, "TeamSessionsModelFails", "the model answers 503")
    also.unlink()

    workers = [p for p in psutil.Process(up).children() if "worker" in p.cmdline()]
    for process in workers:
        process.send_signal(signal.SIGSTOP)
    client.enqueue("team", "waits", session_id="w", user_id="u")
    ok &= _fires(watching, "TeamSessionsNoWorker", f"{len(workers)} workers are frozen, a run waits")
    ok &= _fires(watching, "TeamSessionsRunsWait", "the same")
    for process in workers:
        process.send_signal(signal.SIGCONT)
    ok &= _ends(watching, "TeamSessionsNoWorker")

    postgres.stop(mode="immediate")
    ok &= _fires(watching, "TeamSessionsDatabaseAway", "Postgres is stopped")
    postgres.start()
    return ok & _ends(watching, "TeamSessionsDatabaseAway")


def _fires(watching: Prometheus, alert: str, fault: str) -> bool:
    return _within(lambda: alert in watching.firing(), f"{fault}: {alert} fires")


def _ends(watching: Prometheus, alert: str) -> bool:
    return _within(lambda: alert not in watching.firing(), f"that is over: {alert} ends")


def _within(condition: Callable[[], bool], what: str) -> bool:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > FIRE_S:
            print(f"{what}: NOT within {FIRE_S:g} s", flush=True)
            return False
        time.sleep(0.5)
    print(f"{what}, after {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    main()
