"""A broker or a database that dies with all it held: the runs go on by themselves."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from api_stub.client import Client
from tests.support import look
from tests.support.commit_proxy import CommitProxy
from tests.support.postgres import PostgresServer
from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.processes
SLOTS = 16
OUTAGE_S = 8.0


@pytest.fixture
def up(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> Iterator[tuple[System, Client, int]]:
    """`team-sessions up` with a broker of its own: the system, a client, and the broker's pid."""
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url)
    del system.environment["TEAM_SESSIONS_REDIS_URL"]
    process, client = system.start_up("--concurrency", str(SLOTS // 2))
    children = psutil.Process(process.pid).children(recursive=True)
    broker = next(child.pid for child in children if "valkey-server" in child.name())
    yield system, client, broker
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=120)
    assert not [child for child in children if child.is_running()], "up has left processes behind"
    system.close()


@pytest.mark.extended
def test_a_killed_broker_loses_no_run(up: tuple[System, Client, int]) -> None:
    """With 16 runs running and 26 queued the broker dies with everything in it: all complete, in order."""
    system, client, broker = up
    texts = [f"run {n} [delay=3]" for n in range(2)]
    both = [client.enqueue("plain", text, session_id=f"s{s}", user_id="u") for text in texts for s in range(SLOTS)]
    late = [client.enqueue("plain", "late [delay=1]", session_id=f"late{s}", user_id="u") for s in range(10)]
    wait_until(lambda: look.count(system.db, "running") == SLOTS, description="every slot is taken")
    running, queued = look.count(system.db, "running"), look.count(system.db, "queued")

    os.kill(broker, signal.SIGKILL)
    done = [client.run(run["id"], wait_s=90) for run in both + late]

    assert running >= 15
    assert queued >= 15
    assert [run["status"] for run in done] == ["completed"] * len(done)
    assert all(run["attempt"] == 1 for run in done), "no run lost its worker, so none was begun twice"
    for run in done:
        look.check_history(system.db, look.row(system.db, run["id"]).session_pk)


def test_a_flushed_broker_loses_no_run(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> None:
    """FLUSHALL while heads wait for a slot: the sweep sends them again."""
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url)
    system.start_worker(concurrency=2)
    client = system.start_api()
    accepted = [client.enqueue("plain", "x [delay=1]", session_id=f"s{s}", user_id="u") for s in range(8)]

    valkey.flush()
    done = [client.run(run["id"], wait_s=60) for run in accepted]

    assert [run["status"] for run in done] == ["completed"] * len(done)
    system.close()


@pytest.mark.extended
def test_a_restarted_broker_ends_no_worker(tmp_path: Path, database_url: str) -> None:
    """It is away under running runs, twice; without anybody who would start a worker again, all go on and complete."""
    with (
        closing(ValkeyServer()) as valkey,
        system(tmp_path, database_url=database_url, redis_url=valkey.url) as running,
    ):
        running.start_workers(2)
        client = running.start_api()

        runs = []
        for away in range(2):
            runs += [client.enqueue("plain", f"{away} [delay=2]", session_id=f"s{s}", user_id="u") for s in range(8)]
            wait_until(lambda: look.count(running.db, "running") == 8, description="the runs are running")
            valkey.kill()
            valkey.start()
            done = [client.run(run["id"], wait_s=60) for run in runs]
            assert [run["status"] for run in done] == ["completed"] * len(runs)

        assert [worker.poll() for worker in running.workers] == [None, None]
        assert all(run["attempt"] == 1 for run in done)


@pytest.mark.extended
def test_a_restarted_postgres_loses_no_run(tmp_path: Path, valkey: ValkeyServer) -> None:
    """The server crashes under running runs and comes back: they go on behind what was committed."""
    postgres = PostgresServer(durable=True)
    settings = {"TEAM_SESSIONS_LEASE_SECONDS": "3"}
    system = System(tmp_path, database_url=postgres.new_database(), redis_url=valkey.url, settings=settings)
    system.start_worker()
    client = system.start_api()
    texts = [f"run {n} [steps=3] [delay=0.5]" for n in range(10)]
    accepted = [client.enqueue("with-tool", text, session_id=f"s{n}", user_id="u") for n, text in enumerate(texts)]
    wait_until(lambda: look.count(system.db, "running") == 10, description="all run")

    postgres.stop(mode="immediate")
    postgres.start()
    done = [client.run(run["id"], wait_s=60) for run in accepted]

    assert [run["status"] for run in done] == ["completed"] * len(done)
    for run in done:
        look.check_whole(system.db, run["id"], steps=3)
    system.close()
    postgres.close()


@pytest.mark.extended
@pytest.mark.parametrize("outage", ["stop", "lock", "read-only", "no connections"])
def test_an_outage_of_postgres_throws_nothing_away(tmp_path: Path, valkey: ValkeyServer, outage: str) -> None:
    """It lasts longer than a lease. Every run ends in its first attempt, and each model call is made once."""
    settings = {"TEAM_SESSIONS_LEASE_SECONDS": "3"}
    with (
        closing(PostgresServer(durable=True)) as postgres,
        system(tmp_path, database_url=postgres.new_database(), redis_url=valkey.url, settings=settings) as running,
    ):
        running.start_workers(2)
        client = running.start_api()
        runs = enqueue_steps(client)
        wait_until(lambda: look.count(running.db, "running") == len(runs), description="all run")

        with away(postgres, running, outage):
            time.sleep(OUTAGE_S)

        check_first_attempts(running, client, runs)


@pytest.mark.extended
def test_a_held_lock_of_sqlite_throws_nothing_away(
    tmp_path: Path, new_sqlite: Callable[[], str], valkey: ValkeyServer
) -> None:
    """Another program writes to the file for longer than a lease."""
    settings = {"TEAM_SESSIONS_LEASE_SECONDS": "3"}
    with system(tmp_path, database_url=new_sqlite(), redis_url=valkey.url, settings=settings) as running:
        running.start_workers(2)
        client = running.start_api()
        runs = enqueue_steps(client)
        wait_until(lambda: look.count(running.db, "running") == len(runs), description="all run")

        with running.db.write():
            time.sleep(OUTAGE_S)

        check_first_attempts(running, client, runs)


@pytest.mark.extended
def test_a_commit_whose_answer_is_lost_happens_once(tmp_path: Path, valkey: ValkeyServer) -> None:
    """A network that loses one answer of a COMMIT in four: each message is written once, no effect happens twice."""
    with closing(PostgresServer(durable=True)) as postgres:
        url = postgres.new_database()
        proxy = CommitProxy(postgres.socket)
        name = url.split("@/", 1)[1].split("?", 1)[0]
        through = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"
        with closing(proxy), system(tmp_path, database_url=url, redis_url=valkey.url) as running:
            for _ in range(2):
                running.start_worker(TEAM_SESSIONS_DATABASE_URL=through)
            client = running.start_api()
            proxy.probability = 0.25

            texts = [f"run {n} [steps=2] [delay=0.5]" for n in range(20)]
            runs = {client.enqueue("notes", text, session_id=text, user_id="u")["id"]: text for text in texts}

            check_first_attempts(running, client, runs)
            assert proxy.lost > 10
            effects = (tmp_path / "effects").read_text().split()
            assert len(effects) == len(set(effects)) == 2 * len(runs)
            for run_id in runs:
                look.check_whole(running.db, run_id, steps=2)
                assert all(m.content.startswith("noted") for m in look.log(running.db, run_id) if m.role == "tool")


def enqueue_steps(client: Client) -> dict[str, str]:
    """Enqueue runs that call a tool twice; return their texts by id."""
    texts = [f"run {n} [steps=2] [delay=1]" for n in range(10)]
    return {client.enqueue("with-tool", text, session_id=text, user_id="u")["id"]: text for text in texts}


@contextmanager
def away(postgres: PostgresServer, running: System, outage: str) -> Iterator[None]:
    """Let the server be away, hold a lock, or refuse writes or connections inside the block."""
    name = running.database_url.split("@/", 1)[1].split("?", 1)[0]
    if outage == "stop":
        postgres.stop()
        yield
        postgres.start()
    elif outage == "lock":
        with running.db.write() as tx:
            tx.execute(sqlalchemy.text("LOCK TABLE team_sessions.runs, team_sessions.messages"))
            yield
    else:
        begin, end = {
            "read-only": ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
            "no connections": ("ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
        }[outage]
        postgres.execute(f"ALTER DATABASE {name} {begin}")
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        yield
        postgres.execute(f"ALTER DATABASE {name} {end}")


def check_first_attempts(running: System, client: Client, runs: dict[str, str]) -> None:
    """Assert that the runs complete in their first attempt, and that each of their model calls was made once."""
    done = [client.run(run_id, wait_s=60) for run_id in runs]
    assert [(run["status"], run["attempt"]) for run in done] == [("completed", 1)] * len(runs)
    assert all(look.calls_by_turn(running, text) == {0: 1, 1: 1, 2: 1} for text in runs.values())


@pytest.mark.extended
def test_a_watcher_whose_database_restarts_is_told_the_rest(tmp_path: Path, valkey: ValkeyServer) -> None:
    """The stream ends when the API looks for the run and the server is away; no log calls that a fault of ours."""
    with (
        closing(PostgresServer(durable=True)) as postgres,
        system(tmp_path, database_url=postgres.new_database(), redis_url=valkey.url) as running,
    ):
        running.start_worker()
        client = running.start_api()
        run = client.enqueue("plain", "[delay=5] go", session_id="s", user_id="u")
        events = client.stream(run["id"])
        shown = [next(events)]

        postgres.stop(mode="immediate")
        wait_until(lambda: "stream ended early" in running.log("api"), description="the API has looked for the run")
        postgres.start()
        shown += events

        assert [event.type for event in shown if event.terminal] == ["run.completed"]
        assert shown[-1].data == client.run(run["id"])
        assert "unexpected error" not in running.log("api")


@pytest.mark.extended
def test_up_starts_what_dies_and_leaves_nothing_behind(up: tuple[System, Client, int]) -> None:
    """A worker of `up` is killed: it is started again, and the product goes on."""
    system, client, _broker = up
    workers = [
        process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if "team_sessions/__main__.py worker --queues resumed,runs" in " ".join(process.info["cmdline"] or ())
        and str(system.directory) in process.environ().get("TEAM_SESSIONS_DATA_DIR", "")
    ]

    for worker in workers:
        worker.kill()
    run = client.run(client.enqueue("plain", "still there?", session_id="s", user_id="u")["id"], wait_s=60)

    assert len(workers) == 2
    assert run["status"] == "completed"
    assert "starting it again" in system.log("up")
