"""Summaries whose workers die, and whose bells are doubled and lost: each message goes into one, and no run waits."""

import itertools
import os
import re
import signal
import subprocess
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from sqlalchemy import func, select

from tests.support import look
from tests.support.condensing import jobs, session_row, versions
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer
from worker import settings as configuration
from worker.domain import RunOrder
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store import Database, sessions
from worker.store.tables import summaries
from worker.summaries import due
from worker.summaries.condense import DATA, FORM, PROMPT

pytestmark = [pytest.mark.processes, pytest.mark.extended]
SESSIONS, TRIGGERS = 20, 50  # of each session: a thousand
RUNS = 15  # of them at least; with this team each run that ends makes a summary due
SLOTS = 8
ASKED = len(f"{PROMPT}\n\n{DATA}\n\n{FORM}".splitlines())
NAME = re.compile(r"S(\d+)r(\d+)")
SETTINGS = {
    "TEAM_SESSIONS_SUMMARY_VERSIONS": "1000",
    "TEAM_SESSIONS_SUMMARY_SLOTS": str(SLOTS),
    "TEAM_SESSIONS_LEASE_SECONDS": "8",  # only the dead shall lose one, however busy the machine is
}


@pytest.fixture
def dispatcher(running: System, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Dispatcher:
    """A dispatcher like those of the product."""
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", valkey.url)
    settings = configuration.load()
    return Dispatcher(make_app(settings))


def trigger(db: Database, dispatcher: Dispatcher, number: int) -> tuple[int, int]:
    """Have fifty triggers of one session come: runs that end, and requests that find something to cover.

    Each bell is sent twice. Returns the session's key, and how many of the triggers were runs.
    """
    place = {"session_id": f"s{number}", "team": "condensed-soon"}
    runs = requests = pk = 0
    while runs + requests < TRIGGERS:
        if runs < RUNS or session_row(db, pk).covers_through_seq == 2 * runs:
            order = RunOrder(place["team"], f"I am S{number}r{runs}.", session_id=place["session_id"], user_id="u")
            accepted = enqueue(db, order, settings=Settings())
            ready, runs = accepted.dispatches, runs + 1
            with db.read() as tx:
                pk = sessions.pk_of_run(tx, accepted.run.id) or 0
        else:
            with db.write() as tx:
                ready = due.request(tx, pk, **place)
            requests += len(ready)
        dispatcher.send(ready)
        dispatcher.send(ready)
    return pk, runs


def stored(db: Database) -> int:
    """Return how many versions there are."""
    with db.read() as tx:
        return int(tx.execute(select(func.count()).select_from(summaries)).scalar_one())


def leased_by(db: Database, pid: int) -> int:
    """Return how many refreshes a process is at."""
    return sum((job.lease_owner or "").split(":")[1:2] == [str(pid)] for job in jobs(db))


def kill_in_the_middle(running: System, worker: "subprocess.Popen[bytes]", *, behind: int) -> int:
    """Kill -9 a worker once so many versions are stored, while it is at some; return at how many it was."""
    wait_until(lambda: stored(running.db) >= behind, description=f"{behind} versions are stored")
    wait_until(lambda: leased_by(running.db, worker.pid), description="the worker is at a summary")
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    return leased_by(running.db, worker.pid)


def test_a_thousand_triggers_condense_every_message_once(
    running: System, dispatcher: Dispatcher, valkey: ValkeyServer
) -> None:
    """Runs and requests in a burst, every bell twice, then lost; two workers are killed. All is condensed in the end.

    Versions have no gap, each covers what follows the one before, none is made of a message that another was made of,
    and the model was asked in vain for no more than the dead workers were at.
    """
    running.start_worker(**SETTINGS)
    first, second, _ = running.start_workers(3, queues="summaries", **SETTINGS)
    at_work = 0

    with ThreadPoolExecutor(SESSIONS) as pool:
        triggering = [pool.submit(trigger, running.db, dispatcher, n) for n in range(SESSIONS)]
        at_work += kill_in_the_middle(running, first, behind=5)
        with Redis.from_url(valkey.url) as redis:
            redis.delete("summaries")
        at_work += kill_in_the_middle(running, second, behind=40)
        valkey.flush()
        triggered = [future.result() for future in triggering]
    runs = sum(count for _, count in triggered)
    wait_until(lambda: look.count(running.db, "completed") == runs, description="the runs are done")
    wait_until(lambda: not jobs(running.db), description="no refresh is left")

    pks = [pk for pk, _ in triggered]
    assert at_work >= 1, "the workers were killed in the middle"
    for number, pk in enumerate(pks):
        look.check_history(running.db, pk)
        check_chain(running, number, pk)
    check_journal(running, pks, in_vain=at_work)


def check_chain(running: System, number: int, pk: int) -> None:
    """Assert that each message of a session was told once, to the version that covers it."""
    session, chain = session_row(running.db, pk), versions(running.db, pk)
    assert [v.version for v in chain] == list(range(1, session.summary_version + 1))
    assert session.covers_through_seq == session.last_seq == 2 * session.run_count, "all that ended is covered"
    assert 1 <= len(chain) <= session.run_count, "no more versions than times that one became due"
    for before, version in itertools.pairwise([None, *chain]):
        since = before.covers_through_seq if before else 0
        told = int(re.findall(r"(\d+) lines were read", version.text)[0]) - ASKED - (8 if before else 3)
        assert told == version.covers_through_seq - since >= 2
        heard = [f"S{number}r{n}" for n in range(version.covers_through_seq // 2)]
        assert re.findall(r"I am (S\d+r\d+)", version.text) == heard, "each input was heard, in order and once"


def check_journal(running: System, pks: list[int], *, in_vain: int) -> None:
    """Assert that the model server saw the same: each version was answered, one at a time, and little in vain."""
    calls: dict[int, dict[str, float]] = defaultdict(dict)
    last: dict[int, tuple[str, ...]] = {}
    for line in running.journal():
        if line["summary"]:
            calls[line["call"]][line["event"]] = line["at"]
            last[line["call"]] = NAME.findall(line["user"])[0]
    answered = Counter(last[call] for call, at in calls.items() if "answered" in at)
    made = {
        (str(number), str(version.covers_through_seq // 2 - 1))
        for number, pk in enumerate(pks)
        for version in versions(running.db, pk)
    }
    assert made <= set(answered)
    assert sum(answered.values()) >= len(made)
    assert len(calls) - len(made) <= in_vain, "asked in vain: what the killed workers were at, and nothing else"
    overlaps = 0
    for number in range(SESSIONS):
        times = sorted((at for call, at in calls.items() if last[call][0] == str(number)), key=lambda at: at["asked"])
        overlaps += sum(b["asked"] < a.get("answered", 0) for a, b in itertools.pairwise(times))
    assert overlaps <= in_vain, "two at one session at the same time: only where one of them was dead"


def test_runs_are_executed_at_once_while_every_summary_slot_is_taken(running: System, dispatcher: Dispatcher) -> None:
    """Summaries that no model answers take their slots, and no more; runs go by, and a deploy hands the slots over."""
    slots = {"TEAM_SESSIONS_SUMMARY_SLOTS": "2", "TEAM_SESSIONS_LEASE_SECONDS": "600"}
    running.start_worker(**slots)
    maker = running.start_worker(queues="summaries", **slots)

    def run(session: str, text: str) -> str:
        accepted = enqueue(
            running.db, RunOrder("condensed-never", text, session_id=session, user_id="u"), settings=Settings()
        )
        dispatcher.send(accepted.dispatches)
        return accepted.run.id

    def summaries_asked() -> int:
        return sum(line["summary"] and line["event"] == "asked" for line in running.journal())

    for n in range(4):
        run(f"s{n}", "before")
    wait_until(lambda: summaries_asked() == 2, description="every slot is taken")
    wait_until(lambda: len(jobs(running.db)) == 4, description="four refreshes are wanted")

    later = [run(f"s{n % 4}", f"behind {n}") for n in range(12)]
    wait_until(lambda: look.count(running.db, "completed") == 16, description="the runs are done")
    asked_meanwhile = summaries_asked()
    running.start_worker(queues="summaries", **slots)
    maker.send_signal(signal.SIGTERM)
    code = maker.wait(timeout=120)
    wait_until(lambda: summaries_asked() >= 4, description="another worker takes them over, with no lease to wait for")

    assert all(look.row(running.db, run_id).attempt == 1 for run_id in later)
    assert (asked_meanwhile, code) == (2, 0)
    events = [(line["event"], line["summary"]) for line in running.journal()]
    assert events.count(("answered", False)) == 16
    assert ("answered", True) not in events, "no run has waited for a summary"
    assert [job.failures for job in jobs(running.db)] == [0] * 4
