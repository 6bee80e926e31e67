"""Runs that wait for decisions, while their workers are killed: each ends, and a call has an effect where it may."""

import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_stub.client import Client, RequestFailed
from tests.support.system import System, wait_until
from worker.store import messages

pytestmark = pytest.mark.processes
SEED = 20
TEXT = 'run {n} [call=pay {{"eur": 1}}] [call=pay {{"eur": 2}}] [delegate=a,a,b] task: {n} [call=pay {{"eur": 3}}]'
EFFECT = re.compile(r"pay (\d+) (run_\w+):(\d+):(\d+)")


def decision_about(call: dict[str, Any]) -> dict[str, Any]:
    """Return what both programs decide: the leader's first call yes, its second no, a's with other arguments."""
    eur = json.loads(call["arguments"])["eur"]
    if eur == 2:
        return {"id": call["id"], "action": "reject", "note": "no"}
    if call["author"] == "a":
        return {"id": call["id"], "action": "approve", "arguments": {"eur": 9}}
    return {"id": call["id"], "action": "approve"}


class Decider(threading.Thread):
    """A program that decides about pending calls, one at a time and in random order, until `ends` is set."""

    def __init__(self, running: System, seed: int) -> None:
        super().__init__(daemon=True)
        self.client = Client(running.url, running.key)
        self.random = random.Random(seed)
        self.ends = threading.Event()

    def run(self) -> None:
        while not self.ends.wait(0.05):
            calls = list(self.client.pending(team="waits"))
            self.random.shuffle(calls)
            for call in calls:
                try:
                    self.client.continue_run(call["run_id"], [decision_about(dict(call))])  # type: ignore[list-item]
                except RequestFailed as error:
                    if error.code not in ("run_not_paused", "already_decided"):
                        raise
        self.client.close()


@pytest.mark.default_on("sqlite")
@pytest.mark.parametrize(("number", "kills"), [(12, 5), pytest.param(50, 20, marks=pytest.mark.extended)])
def test_killed_workers_lose_no_decision_and_make_no_call_without_one(running: System, number: int, kills: int) -> None:
    """Four calls a run, two programs, kill -9 while they decide."""
    running.start_workers(3)
    client = running.start_api()
    ids = {client.enqueue("waits", TEXT.format(n=n), session_id=f"s{n}")["id"]: n for n in range(number)}
    deciders = [Decider(running, seed) for seed in (1, 2)]
    for decider in deciders:
        decider.start()

    choose = random.Random(SEED)
    for _ in range(kills):
        time.sleep(choose.uniform(0.3, 0.9))  # so that a kill meets every stage of a run
        worker = choose.choice([worker for worker in running.workers if worker.poll() is None])
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        running.start_worker()
    ended = {id: wait_until(_ended(client, id), description=f"run {n} has ended") for id, n in ids.items()}
    for decider in deciders:
        decider.ends.set()
        decider.join(60)

    assert Counter(run["status"] for run in ended.values()) == {"completed": number}
    effects = Counter(EFFECT.findall(Path(running.directory / "effects").read_text()))
    assert set(effects.values()) <= {1}, "a call that must not be repeated took effect twice"
    by_run: dict[str, list[str]] = {id: [] for id in ids}
    for eur, run_id, _seq, _place in effects:
        by_run[run_id].append(eur)
    for run_id, made in by_run.items():
        decided = client.decisions(run_id)["data"]
        decisions = sorted(call["decision"] or "" for call in decided)
        assert decisions == ["approve", "approve", "approve", "reject"], _results(running, run_id)
        unknown = sum("outcome of this call is unknown" in text for text in _results(running, run_id))
        assert set(made) <= {"1", "9", "3"}, made
        assert len(made) >= 3 - unknown
    assert not _asked_again(running, ids)


def _ended(client: Client, run_id: str) -> Callable[[], Any]:
    return lambda: run if (run := client.run(run_id))["finished_at"] else None


def _results(running: System, run_id: str) -> list[str]:
    with running.db.read() as tx:
        return [message.content for message in messages.of_run_by_id(tx, run_id) if message.role == "tool"]


def _asked_again(running: System, ids: dict[str, int]) -> list[tuple[int, int]]:
    """Return the leaders' turns that were asked for after their reply was written."""
    asked = [line for line in running.journal() if line["event"] == "asked"]
    found = []
    for run_id, n in ids.items():
        with running.db.read() as tx:
            log = [m for m in messages.of_run_by_id(tx, run_id) if m.role == "assistant" and m.delegation is None]
        for turn, reply in enumerate(log):
            own = [a for a in asked if a["user"] == TEXT.format(n=n) and a["turn"] == turn]
            found += [(n, turn) for line in own if line["at"] > reply.created_at.timestamp() + 0.01]
    return found
