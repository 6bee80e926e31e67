"""`team-sessions run` and `runs watch`: how they end, and what they say while nothing happens."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update

from api_stub.client import Client
from tests.support.system import PROGRAM, System, wait_until
from worker.clock import now
from worker.store import tables, teams

Pipe = Callable[..., "subprocess.CompletedProcess[str]"]
FAILS = "[fail=400] no"


@pytest.fixture
def away(running: System) -> str:
    """A team that a worker served an hour ago."""
    worker = "here:7:gone"
    with running.db.write() as tx:
        teams.announce(tx, worker=worker, versions={"away": "1"}, queues=["runs"])
        hour_ago = now() - timedelta(hours=1)
        tx.execute(update(tables.teams).where(tables.teams.c.worker == worker).values(seen_at=hour_ago))
    return "away"


class Watcher:
    """A command that waits, and what it has written to stderr."""

    def __init__(self, running: System, *arguments: str) -> None:
        self._file = running.directory / f"stderr-{len(list(running.directory.iterdir()))}"
        with self._file.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*PROGRAM, *arguments],
                env=dict(os.environ),
                cwd=running.directory,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    @property
    def stderr(self) -> str:
        return self._file.read_text()

    def until(self, text: str) -> None:
        wait_until(lambda: text in self.stderr, description=f"{text!r} is written")

    def end(self) -> str:
        """Wait for its end, and return what it wrote to stdout."""
        return self.process.communicate(timeout=120)[0].decode()


@pytest.mark.extended
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["for people", "for programs"])
def test_a_run_that_no_worker_serves_says_so(running: System, away: str, form: tuple[str, ...]) -> None:
    """On stderr, so that a program can still read stdout; once, however long it takes. Ctrl-C leaves the run."""
    run = Watcher(running, "run", away, "hello", "--session", f"away{len(form)}", *form)

    run.until("[queued: No live worker serves team 'away'; the last one was seen at ")
    with Client(running.url, running.key) as client:
        waiting = next(client.runs(team=away))
        cancelled = Watcher(running, "runs", "watch", waiting["id"], *form)
        cancelled.until("[queued: No live worker serves team 'away'")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == ""
        assert client.run(waiting["id"])["status"] == "queued"
        client.cancel(waiting["id"])
    cancelled.end()

    assert f"The run continues. To watch it: team-sessions runs watch {waiting['id']}" in run.stderr
    assert (run.process.returncode, cancelled.process.returncode) == (1, 1)
    assert cancelled.stderr.count("[queued: ") == 1


@pytest.mark.extended
def test_a_run_behind_another_says_so_and_then_that_it_runs(running: System) -> None:
    """The reason is shown again when it has changed."""
    with Client(running.url, running.key) as client:
        first = client.enqueue("plain", "[delay=60] hello", session_id="behind", user_id="u")["id"]
        second = Watcher(running, "run", "plain", "[delay=60] me too", "--session", "behind", "--user", "u")
        second.until(f"[queued: It is behind run '{first}'")
        client.cancel(first)
        second.until("[running: ")
        client.cancel(next(client.runs(session_id="behind", user_id="u"))["id"])
    second.end()

    assert second.process.returncode == 1


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["for people", "for programs"])
def test_the_exit_code_says_whether_the_run_completed(running: System, pipe: Pipe, form: tuple[str, ...]) -> None:
    """The same with and without JSON, for a new run and for one that is watched."""
    failed = pipe("run", "plain", FAILS, *form)
    completed = pipe("run", "plain", "I am Ada.", *form)
    with Client(running.url, running.key) as client:
        ids = {run["status"]: run["id"] for run in client.runs(team="plain")}
    codes = [pipe("runs", "watch", ids[status], *form).returncode for status in ("failed", "completed")]

    assert (failed.returncode, completed.returncode, codes) == (1, 0, [1, 0])
    assert "Error: Run run_" in failed.stderr
    assert " is failed: " in failed.stderr
    if form:
        assert [json.loads(done.stdout)["status"] for done in (failed, completed)] == ["failed", "completed"]


def test_the_input_can_come_from_a_pipe(running: System, pipe: Pipe) -> None:
    """All its lines are one input; a byte that is no text harms nobody."""
    done = pipe("run", "plain", "-", "--json", said="I am Ada.\n\nWho am I? \udcff\n")
    empty = pipe("run", "plain", "-", said="")

    assert json.loads(done.stdout)["input"] == "I am Ada.\n\nWho am I? \ufffd"
    assert empty.returncode == 1
    assert "The input is empty" in empty.stderr
