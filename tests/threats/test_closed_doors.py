"""What stands open, and for whom: nothing without key or login, nothing beyond this machine, no secret to be read."""

import hashlib
import inspect
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import httpx2
import psutil
import pytest
from flower.urls import handlers
from redis import Redis
from redis.exceptions import AuthenticationError

from tests.support.system import PROGRAM, ROOT, wait_until
from tests.threats import places
from tests.threats.house import House
from worker.queue.embedded import free_port
from worker.store import api_keys

pytestmark = pytest.mark.processes
PATTERNS = [h.regex.pattern if hasattr(h, "regex") else h[0] for h in handlers]
FLOWER = sorted({re.sub(r"\(.*?\)", "x", pattern.rstrip("$")) for pattern in PATTERNS})
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def test_flower_shows_nothing_without_its_login(house: House) -> None:
    """Every path that it has, its files, metrics and health too; also for a login that is not right."""
    extra = [
        "/static/css/flower.css",
        "/static/favicon.ico",
        "//api/workers",
        "/api/../metrics",
        "/%6detrics",
        "/login",
    ]
    wrong = [None, ("flower", ""), ("flower", "x"), ("", ""), ("admin", "admin")]
    paths = [path for path in FLOWER if path.startswith("/")] + extra

    with httpx2.Client(base_url=house.flower.base_url, timeout=60) as stranger:
        met = {
            (method, path, login): stranger.request(method, path, auth=login).status_code
            for login in wrong
            for path in paths
            for method in (METHODS if login is None else ("GET", "POST"))
        }

    assert len(paths) > 30
    # 204 to OPTIONS is the answer to a browser that asks whether it may ask; it has no body.
    assert {a: s for a, s in met.items() if s not in (401, 405) and (a[0], s) != ("OPTIONS", 204)} == {}
    shown = ("/", "/workers", "/tasks", "/broker", "/metrics", "/healthcheck", "/api/workers", "/api/tasks", *extra)
    assert {met["GET", path, None] for path in shown} == {401}
    assert house.flower.get("/healthcheck").status_code == 200


def test_whoever_has_flowers_login_can_only_look(house: House) -> None:
    """It ends no worker, starts no task and takes no queue away."""
    worker = next(iter(wait_until(lambda: house.flower.get("/api/workers?refresh=1").json(), description="it knows")))
    control = [path for path in FLOWER if path.startswith(("/api/worker/", "/api/task/")) and path.endswith("x")]
    asked = [path[:-1] + name for path in control for name in (worker, "runs.execute")]

    met = {path: house.flower.post(path, json={"args": [], "workername": worker}).status_code for path in asked}

    assert len(met) > 15
    assert {path: status for path, status in met.items() if status < 400} == {}
    assert house.ended(house.enqueue("plain", "hello"))["status"] == "completed"


def test_the_api_answers_two_routes_without_a_key(house: House) -> None:
    """/healthz and /readyz, with a status and nothing else; every other path is refused before it is looked at."""
    paths = [re.sub(r"\{.*?\}", "x", path) for path in house.http.get("/openapi.json").json()["paths"]]
    keys = ["", "Bearer", "Bearer x", f"Bearer ts_{'0' * 16}_x", "Basic dTpw"]

    with httpx2.Client(base_url=house.http.base_url, timeout=60) as stranger:
        # `up` says that it is ready when runs can be executed; its worker for background work can still be starting.
        wait_until(lambda: stranger.get("/readyz").json() == {"status": "ready"}, description="all workers are there")
        probes = {path: stranger.get(path) for path in ("/healthz", "/readyz")}
        met = {
            (path, method): {stranger.request(method, path, headers={"Authorization": key}).status_code for key in keys}
            for path in ["/openapi.json", *paths]
            for method in METHODS
            if path not in probes
        }
        closed = {path: stranger.get(path).status_code for path in ("/docs", "/redoc", "/static/x", "/")}

    assert len(met) > 100
    assert {asked: found for asked, found in met.items() if not found <= {401, 405}} == {}
    assert {path for (path, _method), found in met.items() if found == {401}} == {"/openapi.json", *paths} - set(probes)
    assert {path: (answer.status_code, answer.json()) for path, answer in probes.items()} == {
        path: (200, {"status": "ok" if path == "/healthz" else "ready"}) for path in probes
    }
    assert set(closed.values()) == {404}


def test_nothing_listens_beyond_this_machine(house: House) -> None:
    """API, Flower and broker are on loopback, and the broker wants its password."""
    listening = [
        connection.laddr
        for process in house.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 3
    assert {address.ip for address in listening} == {"127.0.0.1"}
    for address in house.broker, house.broker.replace("redis://:", "redis://:x"):
        with Redis.from_url(address) as redis:
            assert address != house.broker or redis.ping()
    with Redis.from_url(re.sub("//.*@", "//", house.broker)) as redis, pytest.raises(AuthenticationError):
        redis.ping()


@pytest.mark.parametrize(
    "umask", ["000", pytest.param("022", marks=pytest.mark.extended), pytest.param("077", marks=pytest.mark.extended)]
)
def test_secrets_are_read_by_their_owner_only(tmp_path: Path, umask: str) -> None:
    """`up` makes its directory and its files for its user alone, also where by default everybody may write files."""
    data = tmp_path / "new/data"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TEAM_SESSIONS_", "OPENAI_"))}
    environment |= {"PYTHONPATH": str(ROOT), "TEAM_SESSIONS_TEAMS": "tests.support.teams"}
    ports = ["--port", str(free_port()), "--flower-port", str(free_port()), "--workers", "1"]
    command = ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *PROGRAM, "up", "--data-dir", str(data), *ports]

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    wait_until(lambda: "Ready." in (tmp_path / "log").read_text(), description="up is ready")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=120)

    names = {
        "api-key",
        "broker-url",
        "flower-login",
        "team-sessions.db",
        "team-sessions.db-wal",
        "team-sessions.db-shm",
        "team-sessions.db-workers",
        "up.lock",
        "api-url",
        "flower-url",
    }
    assert {name: oct(mode) for name, mode in modes.items()} == dict.fromkeys(names, "0o600")
    assert data.stat().st_mode & 0o777 == 0o700
    assert data.parent.stat().st_mode & 0o022 == 0


def test_a_secret_stands_where_it_must_and_nowhere_else(house: House) -> None:
    """The key is kept as its hash; key, login and the broker's password are in no log, page, event or command line."""
    key, login = ((house.data / name).read_text().strip() for name in ("api-key", "flower-login"))
    secret = key.split("_", 2)[2]
    password = house.broker.split("@")[0].removeprefix("redis://:")
    house.http.get("/v1/runs", headers={"Authorization": f"Bearer {key}x"})
    house.ended(house.enqueue("plain", "hello"))

    rows = places.database(house).decode()
    searched = {place: data.decode(errors="replace") for place, data in places.everywhere_else(house, [])}

    assert secret not in rows
    assert hashlib.sha256(secret.encode()).hexdigest() in rows
    found = {
        place
        for place, text in searched.items()
        for word in (secret, login.partition(":")[2], password)
        if word in text and place not in {f"file data/{name}" for name in ("api-key", "broker-url", "flower-login")}
    }
    assert found <= {"command lines and environments"}, "a child knows of the broker by its environment"
    for process in house.processes():
        line = " ".join(process.cmdline())
        assert not any(word in line for word in (secret, login, password))


def test_a_key_is_compared_in_constant_time() -> None:
    """Nobody can measure how much of a guess was right."""
    source = inspect.getsource(api_keys.verify)

    assert "hmac.compare_digest(row.secret_hash, _hash(secret))" in source
    assert "secret_hash ==" not in source
