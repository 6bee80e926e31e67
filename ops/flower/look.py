"""Look at Flower as a person does: in a browser, through a proxy, while the demo's runs execute.

It starts everything on loopback and ends it at the end. The exit code is 0 if the pages show what they must.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Error, Page, Response, sync_playwright

from api_stub.client import Client
from tests.support.system import PROGRAM, System, system, wait_until
from worker.queue.embedded import free_port
from worker.queue.flower import COLUMNS
from worker.store import Database, migrate

HERE = Path(__file__).parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TASKS = "#tasks-table tbody tr"
WHOLE = "cell => cell.title || cell.querySelector('a')?.title || cell.innerText"  # long texts are cut
CELLS = f"rows => rows.map(row => [...row.cells].map({WHOLE}))"
EVERY_ROW = (
    f"([index, text]) => [...document.querySelectorAll('{TASKS}')].every(row => ({WHOLE})(row.cells[index]) === text)"
)
LONG = """() => {
    const cells = document.querySelector('#tasks-table tbody tr').cells, text = 'x'.repeat(99);
    for (const index of [2, 3, 5]) cells[index].textContent = text;
    cells[8].querySelector('.worker-name-prefix').textContent = text;
}"""
CUT = """() => [...document.querySelectorAll('#tasks-table tbody td, .dataTables_scrollHead th')].filter(cell => {
    const text = document.createRange(), style = getComputedStyle(cell);
    text.selectNodeContents(cell);
    const room = cell.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return text.getBoundingClientRect().width > room + 1;
}).map(cell => cell.innerText)"""
# By how many pixels the table is wider than what is shown of it.
HIDDEN = (
    "() => { const box = document.querySelector('.dataTables_scrollBody'); return box.scrollWidth - box.clientWidth }"
)
SEARCH = "words => jQuery('#tasks-table').DataTable().search(words).draw()"
RELOAD = "() => jQuery('#tasks-table').DataTable().ajax.reload()"
SIZE = (1440, 900)  # a laptop's screen, without the browser's own bars
WIDTHS = (1440, 1920)  # on which all columns must be shown
BUSY_S = 60  # how long the runs in progress take


def main() -> None:
    """Execute runs, check the pages, print each result."""
    parser = argparse.ArgumentParser(prog="ops/flower/look", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write pictures of the pages to DIR")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # an exception, so that every process started here is ended
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if chromium is None or shutil.which("nginx") is None:
        missing = "chromium" if chromium is None else "nginx"
        sys.exit(f"There is no {missing} on PATH. Install both: apt-get install chromium nginx-light")
    with tempfile.TemporaryDirectory(prefix="team-sessions-look-") as name:
        directory = Path(name)
        url = f"sqlite:///{directory / 'team-sessions.db'}"
        database = Database(url)
        migrate.upgrade(database)
        database.close()
        settings = {"TEAM_SESSIONS_TEAMS": "ops.flower.teams"}
        pace = ["--pace", "0.02"]
        with system(directory, database_url=url, redis_url="", settings=settings, model_options=pace) as running:
            up, client = running.start_up("--workers", "1")
            with _proxied(running, up.pid) as site:
                _check_login(chromium, site)
                _check_pages(chromium, running, client, site, options.pictures)
            up.send_signal(signal.SIGTERM)
            up.wait(60)
    print("Flower shows what it must.")


@contextmanager
def _proxied(running: System, up: int) -> Iterator[str]:
    """Start a second Flower below a prefix, and nginx before it; yield the site's address."""
    flower_port, port = free_port(), free_port()
    broker = _environment(up)["TEAM_SESSIONS_REDIS_URL"]
    options = ["--port", str(flower_port), "--login-file", "flower-login", "--url-prefix", "flower"]
    environment = {**running.environment, "TEAM_SESSIONS_REDIS_URL": broker}
    running.start("flower", [*PROGRAM, "flower", *options], environment=environment, cwd=running.directory)
    config = (HERE / "nginx.conf").read_text().replace(":5555", f":{flower_port}").replace(":8080", f":{port}")
    temporary = f"proxy_max_temp_file_size 0; {_temporary_paths(running.directory)}"
    config = config.replace("access_log off;", f"access_log off; {temporary}")
    (running.directory / "nginx.conf").write_text(f"daemon off; pid {running.directory}/nginx.pid;\n{config}")
    command = ["nginx", "-p", str(running.directory), "-c", "nginx.conf", "-e", "stderr"]
    proxy = subprocess.Popen(command, cwd=running.directory, stderr=(running.directory / "nginx.log").open("wb"))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        proxy.terminate()
        proxy.wait()


def _environment(pid: int) -> dict[str, str]:
    """Return the environment of a child of `up`; it holds the broker's address."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    variables = [Path(f"/proc/{child}/environ").read_text().split("\0") for child in children]
    environments = [dict(line.split("=", 1) for line in lines if "=" in line) for lines in variables]
    return next(environment for environment in environments if "TEAM_SESSIONS_REDIS_URL" in environment)


def _temporary_paths(directory: Path) -> str:
    """Return nginx's lines for its temporary files, in a directory that any user who runs this can write."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)


@dataclass(slots=True)
class Visit:
    """One page of a browser, and what happened on it."""

    page: Page
    urls: list[str] = field(default_factory=list)  # of all requests
    errors: list[str] = field(default_factory=list)  # that scripts of the page raised


@contextmanager
def _visit(chromium: str, *, login: str | None) -> Iterator[Visit]:
    """Yield a page of a new browser, which logs in with *login*, 'user:password', if there is one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        user, _, password = (login or "").partition(":")
        page = browser.new_page(
            viewport={"width": SIZE[0], "height": SIZE[1]},
            http_credentials={"username": user, "password": password} if login else None,
        )
        visit = Visit(page)
        page.on("request", lambda request: visit.urls.append(request.url))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        yield visit
        browser.close()


def _check_login(chromium: str, site: str) -> None:
    with _visit(chromium, login=None) as visit:
        statuses: dict[str, int] = {}

        def status(url: str) -> int | None:
            with suppress(Error):  # no server yet, or a page without a body, such as that of a 401
                visit.page.goto(url)
            return statuses.pop(url, None)

        def keep(response: Response) -> None:
            statuses[response.url] = response.status

        visit.page.on("response", keep)
        wait_until(lambda: status(f"{site}/flower/tasks") == 401, description="Flower requires its login")
        _check(status(f"{site}/flower/metrics") == 401, "metrics require the login")
        _check(status(f"{site}/") != 200, "the site serves nothing outside the prefix")


def _check_pages(chromium: str, running: System, client: Client, site: str, pictures: Path | None) -> None:
    login = (running.directory / "flower-login").read_text().strip()
    with _visit(chromium, login=login) as visit:
        page = visit.page
        page.goto(f"{site}/flower/")
        page.get_by_text("Online").first.wait_for()
        completed = _execute_runs(client)
        page.goto(f"{site}/flower/tasks")
        page.wait_for_function(f"document.querySelectorAll('{TASKS}').length >= 12")
        _reload_until_shown(page, "tool search · member critic")
        rows: list[list[str]] = page.locator(TASKS).evaluate_all(CELLS)
        for row in rows:
            print("  ".join(f"{cell:<12}" for cell in row))
        columns = dict(zip(COLUMNS.values(), zip(*rows, strict=True), strict=True))
        _check({f"{run}.1" for run in completed} <= set(columns["Run"]), "the table has the runs that completed")
        _check({"STARTED", "SUCCESS", "FAILURE", "RETRY"} <= set(columns["State"]), "it has a run in each state")
        _check("turn 1 · tool search" in columns["Progress or outcome"], "a run in progress shows its current step")
        _check(not any("Ada" in cell for row in rows for cell in row), "no text of a message is shown")
        kinds = {worker.partition("-")[0] for worker in columns["Worker"]}
        _check(kinds == {"runs", "background"}, "a worker is named by its queues")
        for width in reversed(WIDTHS):
            page.set_viewport_size({"width": width, "height": SIZE[1]})
            print(page.evaluate(CUT))
            _check(page.evaluate(HIDDEN) <= 0, f"all columns are shown on {width} pixels")
            _check((cut := page.evaluate(CUT)) == [], f"no text of the demo is cut on {width} pixels: {cut}")
        page.evaluate(LONG)
        _check(page.evaluate(HIDDEN) <= 0, "also if the texts in them are long")
        page.evaluate(RELOAD)
        page.wait_for_function(EVERY_ROW.replace("every", "some"), arg=[4, "STARTED"])
        if pictures:
            _take_pictures(page, site, pictures, run=columns["Run"][1])

        page.locator("[data-task-state=STARTED]").click()
        page.wait_for_function(EVERY_ROW, arg=[4, "STARTED"])
        _check(page.locator(TASKS).count() >= 3, "the filter Started shows the runs in progress")
        page.evaluate(SEARCH, "session1")
        page.wait_for_function(EVERY_ROW, arg=[2, "session1"])
        _check(page.locator(TASKS).count() == 2, "a search for a session finds its runs")

        page.goto(f"{site}/flower/task/{completed[0]}.1")
        _check("session1" in page.inner_text("body"), "the page of a task names its session")
        _check(not visit.errors, f"no script raises an error: {visit.errors}")
        foreign = [url for url in visit.urls if not url.startswith((site, "data:"))]
        _check(not foreign, f"no request goes to another site: {foreign}")


def _take_pictures(page: Page, site: str, directory: Path, *, run: str) -> None:
    page.screenshot(path=directory / "flower-tasks.png")
    page.goto(f"{site}/flower/task/{run}")
    page.screenshot(path=directory / "flower-task.png")
    page.goto(f"{site}/flower/")
    page.get_by_text("Online").first.wait_for()
    page.screenshot(path=directory / "flower-workers.png")
    page.goto(f"{site}/flower/tasks")


def _execute_runs(client: Client) -> list[str]:
    """Execute the demo's runs, and leave others in progress; return the ids of those that completed."""

    def enqueue(team: str, text: str, session: str, user: str) -> str:
        return str(client.enqueue(team, text, session_id=session, user_id=user)["id"])

    completed = []
    for team, text, session, user in (
        ("team", "Hello, I am Ada.", "session1", "user1"),
        ("team", "Hi, I am Grace.", "session2", "user2"),
        ("team", "How are you? What is my name?", "session1", "user1"),
        ("team", "What's up? What is my name?", "session2", "user2"),
        ("condensed", "Hello, I am Alan.", "session3", "user3"),
        ("condensed", "How are you?", "session3", "user3"),
        ("condensed", "What's up?", "session3", "user3"),
    ):
        completed.append(enqueue(team, text, session, user))
        client.wait(completed[-1])
    client.wait(enqueue("team", "[fail=400]", "session4", "user4"))
    enqueue("team", "[fail=503] [retry-after=600]", "session5", "user4")
    searching = f'[call=search {{"seconds": {BUSY_S}}}]'
    enqueue("desk", searching, "session6", "user5")
    enqueue("desk", "the second run of its session", "session6", "user5")
    enqueue("desk", f"[delegate=critic] task: {searching}", "session7", "user5")
    client.enqueue("desk", f"[delay={BUSY_S}]", user_id="user6")  # its session gets a long id
    return completed


def _reload_until_shown(page: Page, text: str) -> None:
    deadline = time.monotonic() + BUSY_S / 2
    while text not in page.inner_text("body"):
        assert time.monotonic() < deadline, f"not shown: {text}"
        page.evaluate(RELOAD)
        time.sleep(0.5)


def _check(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"not so: {promise}")
    print(f"ok: {promise}")


if __name__ == "__main__":
    main()
