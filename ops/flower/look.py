"""Look at Flower as a person does: in a browser, behind a proxy, while runs of the demo are at work.

Everything is started here, on loopback, and ended at the end. The exit code is 0 if the pages show what they must.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api_stub.client import Client
from ops.flower.browser import NAMES, Browser, browser
from tests.support.system import PROGRAM, System, system, wait_until
from worker.queue.embedded import free_port
from worker.queue.flower import COLUMNS
from worker.store import migrate
from worker.store.engine import Database

HERE = Path(__file__).parent
ROWS = "[...document.querySelectorAll('#tasks-table tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
SIZE = (1920, 950)  # a common screen, without what the browser itself takes
WORK_S = 60  # how long the runs at work work


def main() -> None:
    """Play, look, and say what was seen."""
    parser = argparse.ArgumentParser(prog="ops/flower/look", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="leave pictures of the pages there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # an exception: whatever was started is ended on the way out
    if missing := [names[0] for names in (NAMES, ("nginx",)) if not any(map(shutil.which, names))]:
        sys.exit(
            f"Not found on PATH: {', '.join(missing)}. It looks with real ones: apt-get install chromium nginx-light"
        )
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
            with _behind_proxy(running, up.pid) as site:
                _look(running, client, site, options.pictures)
            up.send_signal(signal.SIGTERM)
            up.wait(60)


@contextmanager
def _behind_proxy(running: System, up: int) -> Iterator[str]:
    """Start a second Flower below a prefix, and nginx before it; yield the site's address."""
    flower_port, port = free_port(), free_port()
    broker = _environment(up)["TEAM_SESSIONS_REDIS_URL"]
    options = ["--port", str(flower_port), "--login-file", "flower-login", "--url-prefix", "flower"]
    environment = {**running.environment, "TEAM_SESSIONS_REDIS_URL": broker}
    running.start("flower", [*PROGRAM, "flower", *options], environment=environment, cwd=running.directory)
    own = (HERE / "nginx.conf").read_text().replace(":5555", f":{flower_port}").replace(":8080", f":{port}")
    own = own.replace("access_log off;", f"access_log off; proxy_max_temp_file_size 0; {_in(running.directory)}")
    (running.directory / "nginx.conf").write_text(f"daemon off; pid {running.directory}/nginx.pid;\n{own}")
    command = ["nginx", "-p", str(running.directory), "-c", "nginx.conf", "-e", "stderr"]
    proxy = subprocess.Popen(command, cwd=running.directory, stderr=(running.directory / "nginx.log").open("wb"))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        proxy.terminate()
        proxy.wait()


def _environment(pid: int) -> dict[str, str]:
    """Return the environment of a child of `up`, in which the broker's address stands."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    read = [Path(f"/proc/{child}/environ").read_text().split("\0") for child in children]
    found = [dict(line.split("=", 1) for line in lines if "=" in line) for lines in read]
    return next(environment for environment in found if "TEAM_SESSIONS_REDIS_URL" in environment)


def _in(directory: Path) -> str:
    """Return where nginx puts what it keeps for a moment: in its own directory, whoever starts it."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)


def _look(running: System, client: Client, site: str, pictures: Path | None) -> None:
    login = (running.directory / "flower-login").read_text().strip()
    with browser(login=None) as stranger:
        wait_until(lambda: _status(stranger, f"{site}/flower/tasks") == 401, description="Flower asks for its login")
        _must(_status(stranger, f"{site}/flower/metrics") == 401, "a stranger is asked for the login")
        _must(_status(stranger, f"{site}/") != 200, "beside the prefix there is nothing")
    with browser(login=login) as page:
        page.size(*SIZE, scale=0.75)
        page.open(f"{site}/flower/")
        page.wait_for("document.body.innerText.includes('Online')", description="a worker is shown")
        done = _play(client)
        page.open(f"{site}/flower/tasks")
        at_work = "document.body.innerText.includes('tool search · member critic')"
        page.wait_for("document.querySelectorAll('#tasks-table tbody tr').length >= 12", description="rows are shown")
        _reload_until(page, at_work)
        rows = page.read(ROWS)
        for row in rows:
            print("  ".join(f"{cell:<12}" for cell in row))
        columns = dict(zip(COLUMNS.values(), zip(*rows, strict=True), strict=True))
        _must({f"{run}.1" for run in done} <= set(columns["Run"]), "the runs that were just executed are shown")
        _must({"STARTED", "SUCCESS", "FAILURE", "RETRY"} <= set(columns["State"]), "each in its state")
        _must("turn 1 · tool search" in columns["Progress or outcome"], "a run at work says what it is at")
        _must(not any("Ada" in cell for row in rows for cell in row), "no word of a message is shown")
        if pictures:
            page.picture(pictures / "flower-tasks.png")
            page.open(f"{site}/flower/task/{columns['Run'][1]}")
            page.picture(pictures / "flower-task.png")
            page.open(f"{site}/flower/")
            page.wait_for("document.body.innerText.includes('Online')", description="a worker is shown")
            page.picture(pictures / "flower-workers.png")
            page.open(f"{site}/flower/tasks")

        page.read("document.querySelector('[data-task-state=STARTED]').click()")
        page.wait_for(f"({ROWS}).every(row => row[5] === 'STARTED')", description="the filter leaves those at work")
        _must(len(page.read(ROWS)) >= 3, "runs at work stand under Started")
        _search(page, "session1")
        page.wait_for(f"({ROWS}).every(row => row[3] === 'session1')", description="a session is found by its id")
        _must(len(page.read(ROWS)) == 2, "a session's runs are found")

        page.open(f"{site}/flower/task/{done[0]}.1")
        _must(page.read("document.body.innerText.includes('session1')"), "the page of a task names its session")
        _must(not page.complaints, f"no script complains: {page.complaints}")
        foreign = [address for address, _ in page.everything if not address.startswith((site, "data:"))]
        _must(not foreign, f"nothing is asked of another site: {foreign}")
    print("Flower shows what it must.")


def _play(client: Client) -> list[str]:
    """Have runs executed as in the demo, and leave others at work; return the ids of those that were completed."""

    def enqueue(team: str, text: str, session: str, user: str) -> str:
        return str(client.enqueue(team, text, session_id=session, user_id=user)["id"])

    done = []
    for team, text, session, user in (
        ("team", "Hello, I am Ada.", "session1", "user1"),
        ("team", "Hi, I am Grace.", "session2", "user2"),
        ("team", "How are you? What is my name?", "session1", "user1"),
        ("team", "What's up? What is my name?", "session2", "user2"),
        ("condensed", "Hello, I am Alan.", "session3", "user3"),
        ("condensed", "How are you?", "session3", "user3"),
        ("condensed", "What's up?", "session3", "user3"),
    ):
        done.append(enqueue(team, text, session, user))
        client.wait(done[-1])
    client.wait(enqueue("team", "[fail=400]", "session4", "user4"))
    enqueue("team", "[fail=503] [retry-after=600]", "session5", "user4")
    searching = f'[call=search {{"seconds": {WORK_S}}}]'
    enqueue("desk", searching, "session6", "user5")
    enqueue("desk", "behind the one before it", "session6", "user5")
    enqueue("desk", f"[delegate=critic] task: {searching}", "session7", "user5")
    enqueue("desk", f"[delay={WORK_S}]", "session8", "user6")
    return done


def _status(page: Browser, url: str) -> int | None:
    try:
        page.open(url)
    except AssertionError:
        return None
    return next((status for address, status in page.asked if address == url), None)


def _reload_until(page: Browser, expression: str) -> None:
    deadline = time.monotonic() + WORK_S / 2
    while not page.read(expression):
        if time.monotonic() > deadline:
            raise AssertionError(f"not shown: {expression}")
        page.read("jQuery('#tasks-table').DataTable().ajax.reload()")
        time.sleep(0.5)


def _search(page: Browser, words: str) -> None:
    page.read(f"jQuery('#tasks-table').DataTable().search({words!r}).draw()")


def _must(holds: object, promise: str) -> None:
    if not holds:
        raise AssertionError(f"not so: {promise}")
    print(f"ok: {promise}")


if __name__ == "__main__":
    main()
