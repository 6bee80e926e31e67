"""A real Flower lets in exactly the login of its file, and tells the workers of two containers apart."""

import signal
from pathlib import Path

import httpx2
import pytest

from tests.support.system import PROGRAM, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.cli.worker import _celery_name
from worker.domain.owner import owner_name
from worker.queue.app import RUNS
from worker.queue.embedded import free_port
from worker.store import Database, migrate

pytestmark = [pytest.mark.processes, pytest.mark.extended]


def status(port: int, path: str, login: str | None) -> int:
    """Return the status of one request, 0 without an answer."""
    auth = None if login is None else (login.partition(":")[0].encode(), login.partition(":")[2].encode())
    try:
        return httpx2.get(f"http://127.0.0.1:{port}{path}", auth=auth, timeout=60).status_code
    except httpx2.TransportError:
        return 0


@pytest.mark.parametrize("login", ["flower:abc,def", "flöwer:pä ss%:w"])
def test_flower_lets_in_exactly_the_login_of_its_file(tmp_path: Path, valkey: ValkeyServer, login: str) -> None:
    """On pages, the API and static files; other logins get 401, and no error."""
    (tmp_path / "login").write_text(login + "\n", encoding="utf-8")
    url = f"sqlite:///{tmp_path / 'a.db'}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    with system(tmp_path, database_url=url, redis_url=valkey.url) as running:
        port = free_port()
        options = ["--port", str(port), "--login-file", str(tmp_path / "login")]
        process = running.start("flower", [*PROGRAM, "flower", *options], environment=running.environment)
        wait_until(lambda: status(port, "/healthcheck", login) == 200, description="Flower answers")

        wrong = [None, "def:", "flower:abc", "flower:def", "x:y", "é:é", login + "x", login[:-1], ":"]
        paths = ["/", "/healthcheck", "/api/workers", "/static/css/flower.css", "/metrics"]
        assert {status(port, path, each) for path in paths for each in wrong} == {401}
        assert {status(port, path, login) for path in paths} == {200}
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        assert "Traceback" not in running.log("flower")


def test_two_containers_of_one_host_name_are_two_workers() -> None:
    """Each has the process id 1, so their names have a random part."""
    names = {_celery_name(owner_name(number, locked=True), RUNS) for number in (1, 2)}

    assert len(names) == 2
