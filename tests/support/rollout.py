"""Users who call the product during a deploy, the steps of a deploy, and the check of their runs."""

import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import select

from api_stub.client import Client, Unreachable
from tests.support import look
from tests.support.system import System, wait_until
from tests.support.versions import Version
from worker.domain import Role, open_calls
from worker.store.tables import runs

ENDED = ("completed", "failed", "cancelled")
WAIT_S = 180.0  # for a run, at worst
# The users' requests: the team of the session, the input after its name, the number of replies it takes.
STORIES = (
    ("with-tool", "[steps=3] [delay=0.5]", 4),
    ("plain", "[words=8] [pace=0.25]", 1),
    ("leads", "[delegate=a,b] task: {name} [steps=1] [delay=0.5]", 7),
    ("plain", "[delay=2]", 1),
)


class People:
    """*count* users, each with a session, who send *at_once* runs, wait for them, and repeat this until `stop`."""

    def __init__(
        self, running: System, count: int, *, stories: Sequence[tuple[str, str, int]] = STORIES, at_once: int = 2
    ) -> None:
        self._running = running
        self._at_once = at_once
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self.accepted: dict[str, int] = {}  # run id → the replies that it takes
        self._works = [self._pool.submit(self._work, f"s{n}", *stories[n % len(stories)]) for n in range(count)]

    def wait_for(self, count: int) -> None:
        """Wait until *count* runs have been accepted in all. Raises the error of a user."""

        def enough() -> bool:
            for work in self._works:
                if work.done():
                    work.result()
            return len(self.accepted) >= count

        wait_until(enough, description=f"{count} runs are accepted", timeout_s=WAIT_S)

    def stop(self) -> None:
        """Send nothing more, and wait until everything has ended. Raises the error of a user."""
        self._stopping.set()
        for work in self._works:
            work.result()
        self._pool.shutdown()

    def _work(self, session: str, team: str, marks: str, replies: int) -> None:
        for n in itertools.count(1, self._at_once):
            if self._stopping.is_set():
                return
            sent = [self._send(f"{session}/{n + more}", session, team, marks) for more in range(self._at_once)]
            self.accepted |= dict.fromkeys(sent, replies)
            for run_id in sent:
                self._ask(partial(_wait, run_id))

    def _send(self, name: str, session: str, team: str, marks: str) -> str:
        text = f"{name} {marks.format(name=name)}"
        order: Any = {"session_id": session, "user_id": "u", "idempotency_key": name}
        return str(self._ask(lambda client: client.enqueue(team, text, **order))["id"])

    def _ask(self, ask: Callable[[Client], Any]) -> Any:
        """Call the current API, or its successor if it was replaced during the call."""
        while True:
            url = self._running.url
            try:
                with Client(url, self._running.key) as client:
                    return ask(client)
            except Unreachable:
                if url == self._running.url:
                    raise


def _wait(run_id: str, client: Client) -> None:
    # A second at a time: the API of BASE answers 500 to those who still wait three seconds after its SIGTERM.
    deadline = time.monotonic() + WAIT_S
    while client.run(run_id, user_id="u", wait_s=1)["status"] not in ENDED:
        assert time.monotonic() < deadline, f"{run_id} has not ended within {WAIT_S:g} s"


def replace_workers(running: System, version: Version, *, concurrency: int = 20) -> None:
    """Stop the workers one after the other, each by SIGTERM, and start one of *version* for each."""
    for worker in [worker for worker in running.workers if worker.poll() is None]:
        worker.send_signal(signal.SIGTERM)
        running.start_workers(1, concurrency=concurrency, code=version.path)
        assert worker.wait(timeout=120) == 0


def replace_api(running: System, version: Version) -> None:
    """Start an API of *version*, send the users to it, then stop the old one."""
    before = running.api
    running.start_api(code=version.path)
    before.send_signal(signal.SIGTERM)
    before.wait(timeout=120)


def faults(running: System, expected: dict[str, int]) -> list[str]:
    """Return one sentence per run that is wrong; *expected* maps each run to its number of replies.

    A run must be completed, each input, reply and result written once, in order, and booked once. No written reply is
    requested again.
    """
    problems: list[str] = []
    columns = [runs.c[name] for name in ("id", "session_pk", "status", "error_code", "model_calls")]
    with running.db.read() as tx:
        rows = {row.id: row for row in tx.execute(select(*columns))}
    written: dict[tuple[str, int], float] = {}
    for run_id, replies in expected.items():
        row, log = rows[run_id], look.log(running.db, run_id)
        written_replies = sum(m.role is Role.ASSISTANT for m in log)
        results = sum(m.role is Role.TOOL for m in log)
        calls = sum(len(m.tool_calls) for m in log)
        if row.status != "completed":
            problems.append(f"{run_id} is {row.status}: {row.error_code}")
        if (written_replies, row.model_calls) != (replies, replies) or results != calls or open_calls(log):
            problems.append(
                f"{run_id}: {written_replies} replies, {row.model_calls} booked, {results} results of {calls} calls"
            )
        for _, part in groupby(sorted(log, key=lambda m: (m.delegation or "", m.seq)), lambda m: m.delegation):
            messages = list(part)
            answers = [m for m in messages if m.role is Role.ASSISTANT]
            written |= {(messages[0].content, n): m.created_at.timestamp() for n, m in enumerate(answers)}
    requests = Counter(
        (line["user"], line["turn"])
        for line in running.journal()
        if line["event"] == "asked" and line["at"] > written.get((line["user"], line["turn"]), float("inf"))
    )
    problems += [f"reply {turn} of {user!r} was requested again after it was written" for user, turn in requests]
    for pk in {row.session_pk for row in rows.values()}:
        look.check_history(running.db, pk)
    lines = (line for log in running.directory.glob("worker-*.log") for line in log.read_text().splitlines())
    bad = ("on an unexpected error", "left to its lease", "Traceback")
    return problems + [line[:300] for line in lines if any(sign in line for sign in bad)]
