"""Flower as `team-sessions flower` serves it below a prefix, beside a real worker: what it shows, and to whom."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from flower.options import default_options
from flower.urls import handlers

from api_stub.client import Client
from tests.support.system import PROGRAM, System, system, wait_until
from tests.support.valkey import ValkeyServer
from tests.support.variables import foreign
from worker.queue.embedded import free_port
from worker.queue.flower import COLUMNS, OPTIONS
from worker.queue.flower_page import WIDTHS
from worker.store import Database, migrate

pytestmark = [pytest.mark.processes, pytest.mark.extended]
LOGIN = ("ada", "a password: with a colon")
PATTERNS = [h.regex.pattern if hasattr(h, "regex") else h[0] for h in handlers]
PATHS = sorted({re.sub(r"\(.*?\)", "x", pattern.rstrip("$?")) for pattern in PATTERNS if pattern.startswith("/")})
TEXT = "a secret of mine"


@dataclass(frozen=True)
class Shop:
    """A worker with an API, and Flower below `/flower/`."""

    system: System
    valkey: ValkeyServer
    client: Client
    http: httpx2.Client
    port: int

    def start_flower(self) -> subprocess.Popen[bytes]:
        """Start it beside a `flowerconfig.py`, with all its variables set to odd values; wait until it answers."""
        (self.system.directory / "login").write_text(":".join(LOGIN) + "\n")
        (self.system.directory / "flowerconfig.py").write_text("read_only = False\nopen('executed', 'w').close()\n")
        options = ["--port", str(self.port), "--login-file", "login", "--url-prefix", "flower"]
        environment = foreign() | self.system.environment
        process = self.system.start(
            "flower", [*PROGRAM, "flower", *options], environment=environment, cwd=self.system.directory
        )
        wait_until(lambda: answers(self.http), description="Flower answers")
        return process

    def rows(self, search: str = "", *, sort: str = "received", order: str = "desc") -> list[dict[str, Any]]:
        """Return the rows of the page of tasks, as its table asks for them."""
        table = {"draw": "1", "start": "0", "length": "50", "search[value]": search}
        by = {"order[0][column]": "0", "columns[0][data]": sort, "order[0][dir]": order}
        answer = self.http.post("/flower/tasks/datatable", data=table | by).raise_for_status().json()
        assert "searchError" not in answer, answer
        return list(answer["data"])

    def row(self, run_id: str, **expected: Any) -> dict[str, Any]:
        """Return the row of a run's first attempt, once it has these values."""

        def matching() -> list[dict[str, Any]]:
            rows = [row for row in self.rows(run_id) if row["uuid"] == f"{run_id}.1"]
            return [row for row in rows if all(row[name] == value for name, value in expected.items())]

        return wait_until(matching, description=f"a row with {expected}")[0]


def answers(http: httpx2.Client) -> bool:
    try:
        return http.get("/flower/healthcheck").status_code == 200
    except httpx2.TransportError:
        return False


@contextmanager
def shop_in(directory: Path) -> Iterator[Shop]:
    url = f"sqlite:///{directory / 'team-sessions.db'}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    valkey, port = ValkeyServer(), free_port()
    settings = {"TEAM_SESSIONS_TEAMS": "ops.flower.teams"}
    base = f"http://127.0.0.1:{port}"
    with (
        system(directory, database_url=url, redis_url=valkey.url, settings=settings) as running,
        httpx2.Client(base_url=base, auth=LOGIN, timeout=120, headers={"Connection": "close"}) as http,
    ):
        running.start_worker()
        yield Shop(running, valkey, running.start_api(), http, port)
    valkey.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_in(tmp_path_factory.mktemp("flower")) as built:
        process = built.start_flower()
        wait_until(lambda: "runs-" in str(built.http.get("/flower/api/workers").json()), description="it knows")
        built.client.wait(built.client.enqueue("team", "hello", session_id="first")["id"])
        wait_until(lambda: built.rows("session_id=first") or built.rows("first"), description="it listens")
        yield built
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0


def test_a_row_tells_run_session_team_attempt_and_how_it_goes(shop: Shop) -> None:
    """At work, completed, failed and waiting for a model; no word of what was said."""
    call = f'[call=search {{"seconds": 3}}] {TEXT}'
    at_work = shop.client.enqueue("desk", call, session_id="s-tool")["id"]
    common = {"session_id": "s-tool", "team": "desk", "attempt": 1}
    shop.row(at_work, state="STARTED", result="turn 1 · tool search", **common)
    member = shop.client.enqueue("desk", f"[delegate=critic] task: {call}", session_id="s-member")["id"]
    shop.row(member, state="STARTED", result="turn 2 · tool search · member critic")
    failed = shop.client.enqueue("team", f"[fail=400] {TEXT}", session_id="s-failed")["id"]
    waits = shop.client.enqueue("team", f"[fail=503] [retry-after=99] {TEXT}", session_id="s-waits")["id"]

    shop.row(failed, state="FAILURE", result="failed: model_refused", attempt=1, session_id="s-failed")
    shop.row(waits, state="RETRY", result="waits: model_unavailable", attempt=1)
    row = shop.row(at_work, state="SUCCESS", result="completed", **common)

    assert (row["name"], row["run_id"]) == ("runs.execute", at_work)
    pages = [shop.http.get(f"/flower/task/{run}.1") for run in (at_work, failed, waits)]
    assert {page.status_code for page in pages} == {200}
    assert "s-tool" in pages[0].text
    texts = [page.text for page in pages] + [shop.http.get("/flower/api/tasks").text, str(shop.rows())]
    assert not any("secret" in text for text in texts)


def test_runs_are_found_by_session_run_and_team_and_sorted_by_them(shop: Shop) -> None:
    """With the words that a person types into the page's search."""
    sessions = ["find-b", "find-a", "find-b"]
    runs = [shop.client.enqueue("team", "hello", session_id=session)["id"] for session in sessions]
    for run in runs:
        shop.row(run, state="SUCCESS")

    assert {row["run_id"] for row in shop.rows("find-b")} == {runs[0], runs[2]}
    assert [row["run_id"] for row in shop.rows("kwargs:session_id=find-a")] == [runs[1]]
    assert [row["run_id"] for row in shop.rows(runs[1])] == [runs[1]]
    assert [row["session_id"] for row in shop.rows("find-", sort="session_id", order="asc")] == sorted(sessions)
    assert {row["run_id"] for row in shop.rows("kwargs:team=team state:SUCCESS")} >= set(runs)


def test_every_path_wants_the_login_below_the_prefix_and_beside_it(shop: Shop) -> None:
    """A stranger cannot tell what is there; with the login nothing but an icon is served beside it."""
    below = [f"/flower{path}" for path in PATHS] + ["/flower/static/css/flower.css", "/flower/nothing"]
    beside = [*PATHS, "/static/css/flower.css", "/favicon.ico", "/robots.txt", "/nothing", "/flowers/tasks", "/flower"]

    with httpx2.Client(base_url=shop.http.base_url, timeout=60) as stranger:
        met = {(m, path): stranger.request(m, path).status_code for m in ("GET", "POST") for path in below + beside}
        wrong = {stranger.get(path, auth=("ada", "x")).status_code for path in below + beside}

    assert {request: status for request, status in met.items() if status not in (401, 405)} == {}
    assert {met["GET", path] for path in ("/flower/metrics", "/flower/healthcheck", "/metrics", "/tasks")} == {401}
    assert wrong <= {401, 405}
    answered = {path: shop.http.get(path).status_code for path in beside}
    assert {path: status for path, status in answered.items() if status != 404} == {"/favicon.ico": 200}


def test_a_page_loads_what_it_needs_below_the_prefix(shop: Shop) -> None:
    """Styles, scripts and links."""
    page = shop.http.get("/flower/tasks").text
    needed = re.findall(r'(?:src|href)="(/[^"]*)"', page)

    assert len([path for path in needed if "/static/" in path]) > 8
    assert {path: s for path in needed if (s := shop.http.get(path).status_code) != 200 and "logout" not in path} == {}
    assert re.findall(r'data-column="(\w+)">([^<]+)<', page)[:6] == [
        ("uuid", "Run"),
        ("attempt", "Attempt"),
        ("session_id", "Session"),
        ("team", "Team"),
        ("state", "State"),
        ("result", "Progress or outcome"),
    ]


def test_a_page_of_another_site_can_ask_for_nothing(shop: Shop) -> None:
    """Behind a proxy the site is the one that the browser named: `Host` as it came."""
    table = {"draw": "1", "start": "0", "length": "1", "order[0][column]": "0"}
    met = {
        (host, origin): shop.http.post(
            "/flower/tasks/datatable", data=table, headers={"Host": host, "Origin": f"https://{origin}"}
        ).status_code
        for host, origin in (
            ("ops.example", "ops.example"),
            ("ops.example", "evil.example"),
            ("127.0.0.1", "x.example"),
        )
    }

    assert list(met.values()) == [200, 403, 403]


def test_it_is_read_only_and_executes_no_file_beside_it(shop: Shop) -> None:
    """The directory in which it was started has a `flowerconfig.py` that says otherwise."""
    worker = next(iter(shop.http.get("/flower/api/workers").json()))
    orders = [path for path in PATHS if path.startswith(("/api/worker/", "/api/task/")) and path.endswith("x")]

    met = {path: shop.http.post(f"/flower{path[:-1]}{worker}", json={"args": []}).status_code for path in orders}

    assert len(met) > 10
    assert {path: status for path, status in met.items() if status < 400} == {}
    assert not (shop.system.directory / "executed").exists()


def test_the_columns_share_the_width_of_the_page(shop: Shop) -> None:
    """Each by its number; `ops/flower/look` looks at the page in a browser."""
    assert list(WIDTHS) == list(COLUMNS)
    assert sum(WIDTHS.values()) == pytest.approx(100)

    page = shop.http.get("/flower/tasks").text
    rules = dict(re.findall(r"th:nth-child\((\d+)\) { width: ([\d.]+)%", page))
    assert [float(rules[str(n)]) for n, _ in enumerate(COLUMNS, start=1)] == list(WIDTHS.values())
    assert "draw.dt" in page
    assert "draw.dt" not in shop.http.get("/flower/workers").text


def test_each_option_is_one_that_flower_knows() -> None:
    """It says nothing of one that it does not know, and does without."""
    options = default_options.as_dict()

    assert set(OPTIONS) <= set(options)
    assert OPTIONS["read_only"] is True
    assert options["max_tasks"] > int(str(OPTIONS["max_tasks"])) > 0
    assert options["max_workers"] > int(str(OPTIONS["max_workers"])) > 0


def test_a_page_reloads_itself_where_that_is_asked_for(shop: Shop) -> None:
    """Pages of tasks stand still otherwise."""
    assert shop.http.get("/flower/tasks?reload=2").headers["Refresh"] == "2"
    assert "Refresh" not in shop.http.get("/flower/tasks").headers
    for wrong in ("0", "0;url=//evil", "x", "", "-1"):
        assert "Refresh" not in shop.http.get("/flower/tasks", params={"reload": wrong}).headers


def test_runs_are_shown_again_after_flower_or_redis_was_restarted(tmp_path: Path) -> None:
    """A run at work with all its ids, once it says more; a new run at once."""
    with shop_in(tmp_path) as shop:
        flower = shop.start_flower()
        call = '[call=search {"seconds": 12}] [delay=1]'
        run = shop.client.enqueue("desk", call, session_id="s-long")["id"]
        shop.row(run, state="STARTED")
        flower.send_signal(signal.SIGTERM)
        flower.wait(timeout=120)

        shop.start_flower()
        common = {"session_id": "s-long", "team": "desk", "attempt": 1, "name": "runs.execute"}
        shop.row(run, state="STARTED", result="turn 2 · model", **common)
        shop.row(run, state="SUCCESS", result="completed", **common)

        shop.valkey.kill()
        shop.valkey.start()
        after: list[str] = []

        def has_new_row() -> bool:
            after.append(shop.client.wait(shop.client.enqueue("team", "hello", session_id="s-new")["id"])["id"])
            return any(row["run_id"] in after for row in shop.rows("s-new"))

        wait_until(has_new_row, description="new runs are shown")
