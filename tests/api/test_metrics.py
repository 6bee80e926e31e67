"""`GET /metrics`, of the API and of workers: who may read, what stands there, and what is told in an outage."""

import random
import re
import socket
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.door import SECRET, Door, name
from tests.support.postgres import PostgresServer
from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.observe import metrics
from worker.queue.embedded import free_port
from worker.store import Database, api_keys, migrate

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]
NAMES = {
    sample_of.name + ("_total" if sample_of.type == "counter" else "")
    for registry in (metrics.PROCESS, metrics.INSTALLATION, metrics.REACHABILITY)
    for sample_of in registry.collect()
}


def read(text: str) -> Samples:
    """Return the samples by name and labels; it fails where Prometheus would."""
    values: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return values


def scrape(http: httpx2.Client) -> Samples:
    answer = http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return read(answer.text)


def value(samples: Samples, metric: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels."""
    values = samples.get(f"team_sessions_{metric}", {})
    return sum(number for of, number in values.items() if set(labels.items()) <= set(of))


def test_the_api_tells_how_the_installation_stands_and_what_it_counted(door: Door) -> None:
    """Requests by route and status, accepted runs, refusals by code; unfinished runs, workers, database and broker."""
    before = scrape(door.http)
    run = door.ended(door.enqueue(SECRET)["id"])
    door.events(run["id"])
    door.http.get("/v1/runs/run_" + "0" * 32)
    door.http.get(f"/no/such/{run['id']}")

    after = scrape(door.http)

    def grown(metric: str, **labels: str) -> float:
        return value(after, metric, **labels) - value(before, metric, **labels)

    assert grown("runs_accepted_total", priority="interactive") == 1
    assert grown("http_requests_total", method="POST", route="/v1/runs", status="202") == 1
    assert grown("http_requests_total", route="/v1/runs/{run_id}", status="404") == 1
    assert grown("http_requests_total", route="_OTHER", status="404") == 1
    assert grown("http_answer_seconds_count", route="/v1/runs/{run_id}/events") == 1
    assert grown("refusals_total", code="run_not_found") == grown("refusals_total", code="route_not_found") == 1
    assert value(after, "watchers") == 0
    assert value(after, "database_up") == value(after, "broker_up") == 1
    assert value(after, "live_workers", queue="runs") == value(after, "live_team_workers", team="plain") == 1
    assert value(after, "live_workers", queue="summaries") == 0
    assert set(after["team_sessions_oldest_waiting_head_age_seconds"]) == {
        (("queue", queue),) for queue in ("resumed", "runs", "batch")
    }


def test_a_watcher_is_counted_for_as_long_as_it_watches(door: Door) -> None:
    """One more while the stream is open, one less when it is left."""
    run = door.enqueue("[delay=60] go")
    door.until(run["id"], "running")

    with door.http.stream("GET", f"/v1/runs/{run['id']}/events") as stream:
        lines = stream.iter_lines()  # kept: without its reader the stream is closed
        next(lines)
        assert value(scrape(door.http), "watchers") == 1
    door.cancel(run["id"])

    wait_until(lambda: value(scrape(door.http), "watchers") == 0, description="nobody watches")


def test_no_id_and_no_text_stands_in_a_metric(door: Door) -> None:
    """Neither a user's words nor an id of a user, a session or a run; and every name is on the page of metrics."""
    user, session = name("u"), name("s")
    run = door.ended(door.enqueue(SECRET, user_id=user, session_id=session, team="with-tool")["id"])
    door.http.get(f"/v1/sessions/{session}", params={"user_id": user})
    door.http.request(SECRET.split()[0].upper(), f"/v1/users/{user}/{session}")

    text = door.http.get("/metrics").text

    assert [values for values in (SECRET, user, session, run["id"], '"THE"') if values in text] == []
    assert set(re.findall(r"^# TYPE (team_sessions_\w+)", text, re.MULTILINE)) <= NAMES


@pytest.mark.extended
def test_a_worker_tells_what_it_has_seen(tmp_path: Path, valkey: ValkeyServer) -> None:
    """On the port that it was given: runs by status, claims, model calls, tokens, tools, summaries, sweeps."""
    with started(tmp_path, sqlite(tmp_path), valkey, teams="tests.support.teams") as running:
        port = free_port()
        running.start_worker(queues="resumed,runs,summaries", TEAM_SESSIONS_METRICS_PORT=str(port))
        client = running.start_api()
        for text in ("hello", "[steps=1] go", "[fail=400] no"):
            client.wait(client.enqueue("plain" if "steps" not in text else "with-tool", text)["id"])

        with door_of(port, running.key) as http:
            seen = scrape(http)
            other = http.get("/"), http.get("/metrics", headers={"Authorization": ""}), http.post("/metrics")
            bound = http.get("/metrics", headers={"Authorization": f"Bearer {bound_key(running)}"})

        assert value(seen, "runs_ended_total", status="completed") == 2
        assert value(seen, "runs_ended_total", team="plain", status="failed") == 1
        assert value(seen, "run_failures_total", code="model_refused") == 1
        assert value(seen, "model_errors_total", code="model_refused") == 1
        assert value(seen, "model_call_seconds_count") == 3
        assert value(seen, "model_calls") == 0
        assert value(seen, "tokens_total", kind="input") > 0
        assert value(seen, "tokens_total", kind="output") > 0
        assert value(seen, "tool_call_seconds_count") == 1
        assert value(seen, "claim_seconds_count", queue="runs") == value(seen, "start_seconds_count") == 3
        assert 0 <= value(seen, "claim_seconds_sum") < value(seen, "start_seconds_sum") + 1
        assert value(seen, "sweeps_total", how="done") >= 1
        assert value(seen, "lease_losses_total") == value(seen, "refused_writes_total") == 0
        assert "process_resident_memory_bytes" in seen
        assert [answer.status_code for answer in (*other, bound)] == [404, 401, 501, 403]
        assert "team_sessions_database_up" not in seen


@pytest.mark.extended
def test_a_worker_listens_only_if_it_was_asked_to_and_a_taken_port_stops_nothing(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    """The second worker executes runs all the same, and has the port once the first is gone."""
    with started(tmp_path, sqlite(tmp_path), valkey) as running:
        port = free_port()
        first = running.start_worker(TEAM_SESSIONS_METRICS_PORT=str(port))
        running.start_worker(TEAM_SESSIONS_METRICS_PORT=str(port))
        running.start_worker()
        client = running.start_api()
        client.wait(client.enqueue("plain", "hello")["id"])

        first.terminate()
        assert first.wait(timeout=120) == 0

        with door_of(port, running.key) as http:
            wait_until(lambda: answers(http), description="the second worker has the port")
        assert "metrics cannot be served yet" in running.log("worker-2")
        assert "metrics" not in running.log("worker-3")


def two_free_ports() -> int:
    """Return a port that is free, and the next one too: below those that the system gives to whoever asks for any."""
    for _ in range(100):
        port = random.randrange(20_000, 30_000)
        with socket.socket() as one, socket.socket() as next_one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            next_one.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two ports are free")


@pytest.mark.extended
@pytest.mark.processes
def test_up_gives_each_worker_the_next_port(tmp_path: Path, valkey: ValkeyServer) -> None:
    """The first has the one that was asked for; the key of `up` opens them all."""
    with started(tmp_path, sqlite(tmp_path), valkey) as running:
        port = two_free_ports()
        running.start_up("--workers", "1", "--metrics-port", str(port))
        key = (tmp_path / "api-key").read_text().strip()

        for n in range(2):
            with door_of(port + n, key) as http:
                wait_until(lambda http=http: answers(http), description=f"worker {n} answers")


@pytest.mark.extended
@pytest.mark.processes
def test_an_outage_of_the_database_is_told(tmp_path: Path, valkey: ValkeyServer) -> None:
    """A scraper that was known a moment ago is answered: it is down, and nothing is said of what cannot be known."""
    server = PostgresServer()
    try:
        with started(tmp_path, server.new_database(), valkey) as running:
            port = free_port()
            running.start_worker(TEAM_SESSIONS_METRICS_PORT=str(port))
            running.start_api()
            with door_of(0, running.key, url=running.url) as api, door_of(port, running.key) as worker:
                assert value(scrape(api), "database_up") == 1
                wait_until(lambda: answers(worker), description="the worker answers")

                server.stop(mode="immediate")

                wait_until(lambda: value(scrape(api), "database_up") == 0, description="it is told")
                away = scrape(api)
                scrape(worker)
                stranger = api.get("/metrics", headers={"Authorization": "Bearer ts_0123456789abcdef_x"})
                assert not set(away) & {f"team_sessions_{n}" for n in ("unfinished_runs", "live_workers", "batches")}
                assert value(away, "broker_up") == 1
                assert stranger.status_code == 503

                server.start()
                wait_until(lambda: value(scrape(api), "database_up") == 1, description="it is back")
                assert value(scrape(api), "live_workers", queue="runs") == 1
    finally:
        server.close()


@pytest.mark.extended
@pytest.mark.processes
def test_an_outage_of_the_broker_is_told(tmp_path: Path) -> None:
    """The database's figures stay, the queues' depths go."""
    broker = ValkeyServer()
    with started(tmp_path, sqlite(tmp_path), broker) as running:
        running.start_api()
        with door_of(0, running.key, url=running.url) as api:
            assert value(scrape(api), "broker_up") == 1
            broker.close()

            wait_until(lambda: value(scrape(api), "broker_up") == 0, description="it is told")

            away = scrape(api)
            assert "team_sessions_queue_messages" not in away
            assert value(away, "database_up") == 1


def started(directory: Path, url: str, valkey: ValkeyServer, *, teams: str = "tests.api.teams"):  # type: ignore[no-untyped-def]
    settings = {"TEAM_SESSIONS_TEAMS": teams}
    return system(directory, database_url=url, redis_url=valkey.url, settings=settings)


def sqlite(directory: Path) -> str:
    url = f"sqlite:///{directory / 'team-sessions.db'}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    return url


def door_of(port: int, key: str, *, url: str = "") -> httpx2.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=url or f"http://127.0.0.1:{port}", headers=headers, timeout=120, verify=False)


def bound_key(running: System) -> str:
    with running.db.write() as tx:
        return api_keys.create(tx, name="bound", user_id="u")


def answers(http: httpx2.Client) -> bool:
    try:
        return http.get("/metrics").status_code == 200
    except httpx2.TransportError:
        return False
