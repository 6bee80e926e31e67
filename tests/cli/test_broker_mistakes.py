"""A broker that cannot be used: each process says so at its start, in the words of `doctor`."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from kombu.transport import redis as transport
from redis import Redis

from tests.support.system import PROGRAM, System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker import settings
from worker.cli import broker
from worker.domain import Problem
from worker.errors import BrokerUnusable
from worker.events import broker_probe
from worker.events.broker_probe import Broker, probe
from worker.events.connections import connect
from worker.queue import app
from worker.queue.embedded import free_port

PASSWORD = "p@ss:w/o%rd#;,+&=?é hunter2"
COMMANDS = ("+@all", "-@admin", "-@dangerous", "+info")
CHANNELS = ("&{prefix}/{number}.celery.pidbox", "&{prefix}/{number}.celeryev/*")
MAY_NOT_USE_CHANNELS = "Its user may not use the channels of Celery."


@pytest.fixture
def ada(valkey: ValkeyServer) -> Iterator[Callable[..., str]]:
    """Give the user `ada` of the broker some rules; return the broker's address with that user."""
    with Redis.from_url(valkey.url) as redis:

        def allow(*rules: str, prefix: str = "", number: int = 0) -> str:
            given = [rule.format(prefix=prefix, number=number) for rule in rules]
            redis.execute_command("ACL", "SETUSER", "ada", "reset", "on", f">{PASSWORD}", *given)
            return f"redis://ada:{quote(PASSWORD, safe='')}@{valkey.url.split('@')[1].removesuffix('/0')}/{number}"

        yield allow
        redis.execute_command("ACL", "DELUSER", "ada")


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (("~*", "&*", "+@all"), None),
        (("~{prefix}*", *CHANNELS, *COMMANDS), None),
        (("~*", "+@all"), MAY_NOT_USE_CHANNELS),
        (("~{prefix}*", "&{prefix}/*", "+@all"), MAY_NOT_USE_CHANNELS),  # a pattern is allowed literally only
        (("~other.*", "&*", "+@all"), "Its user may not use the keys of Team Sessions."),
        (("%R~*", "&*", "+@all"), "Its user may not use the keys of Team Sessions."),
        (("~*", "&*", "+@all", "-@scripting"), "Its user may not run the command 'EVAL'."),
        *(
            (("~*", "&*", "+@all", f"-{name}"), f"Its user may not run the command '{name.upper()}'.")
            for name in ("xadd", "xread", "brpop", "hset", "zrange", "publish", "psubscribe", "evalsha")
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize(("prefix", "number"), [("", 0), ("shop.", 3)])
def test_what_the_user_of_the_broker_may_not_do(
    ada: Callable[..., str], rules: tuple[str, ...], sentence: str | None, prefix: str, number: int
) -> None:
    """The first thing that is missing is said, and the rule that grants everything."""
    result = probe(ada(*rules, prefix=prefix, number=number), prefix=prefix)

    if sentence is None:
        assert isinstance(result, Broker)
    else:
        assert isinstance(result, Problem)
        assert (result.code, result.sentence, result.lasting) == ("broker_forbidden", sentence, True)
        granted = result.advice.replace("'", "").removeprefix("ACL SETUSER NAME ").split()
        assert isinstance(probe(ada(*granted, number=number), prefix=prefix), Broker)


def test_a_cluster_is_refused() -> None:
    """By its name, whether or not our user may ask for INFO. So is a number that a server does not have."""
    cluster = ValkeyServer("cluster-enabled yes")
    with Redis.from_url(cluster.url) as redis:
        redis.execute_command("ACL", "SETUSER", "ada", "on", ">x", "~*", "&*", "+@all", "-info")
        redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: redis.cluster("INFO")["cluster_state"] == "ok", description="the cluster has all slots")
    user = cluster.url.replace("redis://:", "redis://ada:x@").split("@")
    results = [probe(url, prefix="") for url in (cluster.url, f"{user[0]}@{user[-1]}", cluster.url[:-1] + "9")]
    cluster.close()

    assert [getattr(result, "code", None) for result in results] == [
        "broker_cluster",
        "broker_cluster",
        "broker_no_database",
    ]


def test_nothing_is_left_of_a_probe(valkey: ValkeyServer) -> None:
    """Its keys are removed again, and queues keep their messages."""
    with Redis.from_url(valkey.url, decode_responses=True) as redis:
        redis.lpush("runs", "message")

        result = probe(valkey.url, prefix="")

        assert isinstance(result, Broker)
        assert (redis.keys(), redis.lrange("runs", 0, -1)) == (["runs"], ["message"])


def test_the_probe_knows_the_names_of_celery() -> None:
    """It may not import them."""
    channel = transport.Channel

    assert broker_probe.QUEUES == app.QUEUES
    assert channel.sep == broker_probe.SEPARATOR
    assert [0, *broker_probe.STEPS] == channel.priority_steps


@pytest.mark.parametrize("options", ["", "?protocol=2&client_name=shop", "?protocol=3"])
def test_celery_and_we_connect_alike(ada: Callable[..., str], monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    """As the same user, to the same database, with the same options."""
    url = ada("~*", "&*", "+@all", number=2) + options
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", f" {url}\n")
    loaded = settings.load()
    names = ("host", "port", "db", "username", "password", "client_name", "protocol")

    with app.make_app(loaded).connection_for_write() as connection, connect(loaded.broker, timeout_s=5) as redis:
        theirs = connection.default_channel.client.connection_pool.connection_kwargs
        ours = redis.connection_pool.connection_kwargs
        redis.xadd("stream", {"a": "b"})
        redis.expire("stream", 1)
        assert isinstance(redis.xread({"stream": "0"}), list)  # the shape that is read in every version of the protocol
        assert {name: theirs.get(name) for name in names} == {name: ours.get(name) for name in names}
        assert "hunter2" not in f"{connection!r} {connection.as_uri()}"


def test_a_process_waits_only_for_what_can_come(ada: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away may come; a user without permissions stays."""
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    broker.check(settings.load())
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", ada("~*", "+@all"))

    with pytest.raises(BrokerUnusable, match=f"The broker cannot be used. {MAY_NOT_USE_CHANNELS} ACL SETUSER"):
        broker.check(settings.load())


def ended(running: System, *command: str, url: str) -> str:
    """Run a command until it ends, with another broker; return what it says."""
    environment = running.environment | {"TEAM_SESSIONS_REDIS_URL": url}
    done = subprocess.run([*PROGRAM, *command], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    return done.stderr


@pytest.mark.extended
def test_each_process_says_the_same(
    tmp_path: Path, new_sqlite: Callable[[], str], valkey: ValkeyServer, ada: Callable[..., str]
) -> None:
    """Worker, Flower and `up` end; the API starts, and is not ready until the rule is mended; doctor fails."""
    url = ada("~*", "+@all")
    login = tmp_path / "login"
    login.write_text("a:b")
    ports = ("--port", str(free_port()), "--flower-port", str(free_port()))
    commands = [("worker",), ("flower", "--login-file", str(login)), ("up", "--data-dir", str(tmp_path / "up"), *ports)]
    with system(tmp_path, database_url=new_sqlite(), redis_url=url) as running:
        sentences = [ended(running, *command, url=url) for command in commands]
        running.start_api()
        ready = httpx2.get(f"{running.url}/readyz", timeout=60)
        command = [*PROGRAM, "doctor", "--json"]
        doctor = subprocess.run(command, env=running.environment, capture_output=True, text=True, check=False)
        finding = next(line for line in json.loads(doctor.stdout) if line["check"] == "broker")

        expected = f"{finding['detail']} {finding['advice']}"
        assert (doctor.returncode, finding["code"]) == (1, "broker_forbidden")
        assert expected.startswith(f"{MAY_NOT_USE_CHANNELS} ACL SETUSER NAME ")
        assert sentences == [f"Error: The broker cannot be used. {expected}\n"] * 3
        assert (ready.status_code, ready.json()) == (503, {"status": "no broker", "detail": expected})
        assert expected in running.log("api")
        ada("~*", "&*", "+@all")
        mended = lambda: httpx2.get(f"{running.url}/readyz", timeout=60).json() == {"status": "no worker"}  # noqa: E731
        wait_until(mended, description="the API notices")


@pytest.mark.extended
def test_a_user_with_a_prefix_is_enough(
    tmp_path: Path, new_sqlite: Callable[[], str], valkey: ValkeyServer, ada: Callable[..., str]
) -> None:
    """All keys and channels begin with it, those of Celery and Flower too; a message of another program arrives."""
    url = ada("~shop.*", *CHANNELS, *COMMANDS, prefix="shop.", number=3)
    prefix = {"TEAM_SESSIONS_QUEUE_PREFIX": "shop."}
    login = tmp_path / "login"
    login.write_text("a:b")
    port = free_port()
    with system(tmp_path, database_url=new_sqlite(), redis_url=url, settings=prefix) as running:
        running.start_worker(queues="resumed,runs,enqueue,batch,summaries")
        client = running.start_api()
        flower = [*PROGRAM, "flower", "--port", str(port), "--login-file", str(login)]
        running.start("flower", flower, environment=running.environment)
        inspect = f"http://127.0.0.1:{port}/api/workers?refresh=1"

        def known() -> dict[str, object]:
            try:
                answer = httpx2.get(inspect, auth=("a", "b"), timeout=60)
            except httpx2.TransportError:
                return {}
            return answer.json() if answer.status_code == 200 else {}

        workers = wait_until(known, description="Flower has asked the worker")
        run = client.run(client.enqueue("plain", "hello", session_id="s", user_id="u")["id"], wait_s=60)
        with Redis.from_url(url, decode_responses=True) as redis:
            streams = redis.exists(f"shop.run:{run['id']}:events")
        with Redis.from_url(valkey.url.removesuffix("/0") + "/3", decode_responses=True) as redis:
            foreign = [key for key in redis.scan_iter() if not key.startswith("shop.")]
            redis.flushdb()
        logs = running.log("worker-1") + running.log("api") + running.log("flower")

        assert run["status"] == "completed"
        assert (streams, foreign, len(workers)) == (1, [], 1)
        assert "hunter2" not in logs
        assert "NoPermission" not in logs
