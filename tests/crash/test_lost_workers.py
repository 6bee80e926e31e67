"""Workers that die, stall or are stopped: their runs go on, nothing is paid twice, nothing is written twice."""

import os
import signal
import subprocess
import sys

import pytest

from api_stub.client import Client
from tests.crash.conftest import LEASE_S
from tests.support import look
from tests.support.system import System, wait_until

pytestmark = pytest.mark.processes
STEPS = 4


def start(running: System, **settings: str) -> Client:
    """Start two workers and the API."""
    running.start_workers(2, **settings)
    return running.start_api()


def executing(running: System, run_id: str) -> subprocess.Popen[bytes]:
    """Return the worker that holds the run's lease."""
    pid = int(look.row(running.db, run_id).lease_owner.split(":")[1])
    return next(worker for worker in running.workers if worker.pid == pid)


@pytest.mark.default_on("sqlite")
def test_a_killed_worker_loses_nothing_that_was_paid(running: System) -> None:
    """kill -9 between two model calls: another worker goes on behind the last written message."""
    text = f"kill [steps={STEPS}] [delay=0.4]"
    client = start(running)
    run = client.enqueue("with-tool", text, session_id="s", user_id="u")
    wait_until(lambda: len(look.log(running.db, run["id"])) >= 5, description="two turns are written")

    os.kill(executing(running, run["id"]).pid, signal.SIGKILL)
    paid = sum(m.role == "assistant" for m in look.log(running.db, run["id"]))
    wait_until(
        lambda: look.row(running.db, run["id"]).attempt == 2,
        description="the other worker takes it over within the lease plus 5 s",
        timeout_s=LEASE_S + 5,
    )
    done = client.run(run["id"], wait_s=30)

    assert done["status"] == "completed"
    look.check_whole(running.db, run["id"], steps=STEPS)
    asked = look.calls_by_turn(running, text)
    assert all(asked[turn] == 1 for turn in range(paid)), asked
    assert sum(asked.values()) <= STEPS + 2, "only the call in flight may be asked again"
    assert done["usage"]["model_calls"] == STEPS + 1


@pytest.mark.extended
def test_a_frozen_worker_cannot_write_after_another_claimed_its_run(running: System) -> None:
    """SIGSTOP past the lease, then SIGCONT: the history shows one answer, and the woken worker works on."""
    text = f"freeze [steps={STEPS}] [delay=0.4]"
    client = start(running)
    run = client.enqueue("with-tool", text, session_id="s", user_id="u")
    wait_until(lambda: len(look.log(running.db, run["id"])) >= 3, description="a turn is written")
    first = executing(running, run["id"])

    running.freeze(first.pid)
    paid = sum(m.role == "assistant" for m in look.log(running.db, run["id"]))
    done = client.run(run["id"], wait_s=LEASE_S + 30)
    written = look.log(running.db, run["id"])
    os.kill(first.pid, signal.SIGCONT)
    for other in running.workers:
        if other is not first:
            os.kill(other.pid, signal.SIGTERM)
            other.wait(timeout=120)
    after = client.run(client.enqueue("with-tool", "and now?", session_id="s", user_id="u")["id"], wait_s=30)

    assert done["status"] == "completed"
    look.check_whole(running.db, run["id"], steps=STEPS)
    asked = look.calls_by_turn(running, text)
    assert all(asked[turn] == 1 for turn in range(paid)), asked
    assert after["status"] == "completed", "the woken worker executes the next run"
    assert look.log(running.db, run["id"]) == written, "the woken worker wrote nothing into the old one"


def test_a_stopped_worker_hands_its_run_over(running: System) -> None:
    """SIGTERM in the middle of a run: it goes on elsewhere, with no lease to wait for and no reply asked again."""
    text = f"deploy [steps={STEPS}] [delay=0.4]"
    client = start(running, TEAM_SESSIONS_LEASE_SECONDS="600")
    run = client.enqueue("with-tool", text, session_id="s", user_id="u")
    wait_until(lambda: len(look.log(running.db, run["id"])) >= 3, description="a turn is written")
    first = executing(running, run["id"])

    first.send_signal(signal.SIGTERM)
    done = client.run(run["id"], wait_s=60)

    assert first.wait(timeout=120) == 0
    assert done["status"] == "completed"
    assert done["attempt"] == 2
    look.check_whole(running.db, run["id"], steps=STEPS)
    assert max(look.calls_by_turn(running, text).values()) == 1, "the reply in flight had time to arrive"


@pytest.mark.extended
def test_a_call_in_flight_is_ended_when_the_grace_is_over(running: System) -> None:
    """SIGTERM during a model call that is longer than the grace: the worker ends, the call is made elsewhere."""
    text = "slow [delay=6]"
    client = start(running, TEAM_SESSIONS_LEASE_SECONDS="600")
    run = client.enqueue("plain", text, session_id="s", user_id="u")
    wait_until(lambda: look.calls_by_turn(running, text)[0] == 1, description="the model is asked")
    first = executing(running, run["id"])

    first.send_signal(signal.SIGTERM)
    code = first.wait(timeout=120)
    done = client.run(run["id"], wait_s=60)

    assert code == 0
    assert done["status"] == "completed"
    assert look.calls_by_turn(running, text)[0] == 2


@pytest.mark.extended
def test_a_crash_in_the_second_of_three_delegations_resumes_inside_it(running: System) -> None:
    """kill -9 there: what the first member and the interrupted one had answered is not asked again."""
    client = start(running)
    run = client.enqueue("leads", "go [delegate=a,b,c] task: [steps=3] [delay=0.4]", session_id="s", user_id="u")
    tasks = {name: f"{name}: [steps=3] [delay=0.4]" for name in "abc"}

    def second_is_under_way() -> bool:
        return sum(m.author == "b" for m in look.log(running.db, run["id"])) >= 2

    wait_until(second_is_under_way, description="the second member has answered twice")
    os.kill(executing(running, run["id"]).pid, signal.SIGKILL)
    paid = sum(m.author == "b" for m in look.log(running.db, run["id"]))
    done = client.run(run["id"], wait_s=60)

    assert (done["status"], done["attempt"]) == ("completed", 2)
    assert look.calls_by_turn(running, tasks["a"]) == dict.fromkeys(range(4), 1)
    assert all(look.calls_by_turn(running, tasks["b"])[turn] == 1 for turn in range(paid))
    assert sum(look.calls_by_turn(running, tasks["b"]).values()) <= 5, "only the call in flight may be asked again"
    assert look.calls_by_turn(running, tasks["c"]) == dict.fromkeys(range(4), 1)
    log = look.log(running.db, run["id"])
    assert [m.author for m in log if m.delegation is None and m.role == "assistant"] == ["leads"] * 4
    for name in "abc":
        assert sum(m.author == name for m in log) == 4
    assert done["usage"]["model_calls"] == 4 + 3 * 4


@pytest.mark.extended
def test_a_script_that_is_killed_in_its_run_leaves_it_to_a_worker(running: System) -> None:
    """kill -9 in the middle of `team.run()`: a worker that serves the team finishes the run."""
    client = start(running)
    script = running.start(
        "script",
        [sys.executable, "-m", "tests.support.script", running.database_url, "script [steps=3] [delay=0.5]"],
        environment=running.environment,
    )
    run_id = wait_until(lambda: look.only_run(running.db), description="the script's run is accepted")
    wait_until(lambda: len(look.log(running.db, run_id)) >= 3, description="a turn is written")
    assert str(script.pid) in look.row(running.db, run_id).lease_owner

    script.kill()
    done = client.run(run_id, wait_s=60)

    assert (done["status"], done["attempt"], done["user_id"]) == ("completed", 2, "u")
    look.check_whole(running.db, run_id, steps=3)
    assert max(look.calls_by_turn(running, "script [steps=3] [delay=0.5]").values()) <= 2


@pytest.mark.extended
def test_an_unsafe_tool_is_not_repeated_after_its_worker_was_killed(running: System) -> None:
    """kill -9 inside a tool that must not happen twice: its effect stands once, and the model is told so."""
    client = start(running)
    run = client.enqueue("charges", "charge [steps=1]", session_id="s", user_id="u")
    effects = running.directory / "effects"
    wait_until(effects.exists, description="the tool has had its effect")

    os.kill(executing(running, run["id"]).pid, signal.SIGKILL)
    done = client.run(run["id"], wait_s=60)

    assert done["status"] == "completed"
    assert effects.read_text().splitlines() == [f"{run['id']}:2:0"]
    results = [m.content for m in look.log(running.db, run["id"]) if m.role == "tool"]
    assert len(results) == 1
    assert "outcome of this call is unknown" in results[0]
