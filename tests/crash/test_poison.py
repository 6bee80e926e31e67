"""A run that ends its processes: it is failed, and whoever stood beside it goes on."""

import pytest

from api_stub.client import Client, Run
from tests.support import look
from tests.support.supervised import started_again
from tests.support.system import System

pytestmark = pytest.mark.processes
NEIGHBOURS = 12
LEASE_S = "10"  # long enough for a dozen processes that begin at once on two cores


def look_until_ended(client: Client, run_id: str) -> Run:
    """Return a run once it has ended: three leases run out before, and processes start."""
    for _ in range(3):
        run = client.run(run_id, wait_s=60)
        if run["finished_at"]:
            break
    return run


@pytest.mark.extended
def test_a_run_that_ends_its_processes_is_failed_and_nothing_else(running: System) -> None:
    """After two workers it is executed alone. Its session goes on, and so do the runs that died with it."""
    running.start_worker(TEAM_SESSIONS_LEASE_SECONDS=LEASE_S)
    client = running.start_api()
    beside = [client.enqueue("plain", f"{n} [delay=6]", session_id=f"s{n}", user_id="u") for n in range(NEIGHBOURS)]
    with started_again(running, TEAM_SESSIONS_LEASE_SECONDS=LEASE_S) as deaths:
        poison = client.enqueue("deadly", "die", session_id="p", user_id="u")
        behind = client.enqueue("deadly", "hello", session_id="p", user_id="u")

        ended, *done = [look_until_ended(client, run["id"]) for run in (poison, behind, *beside)]

    assert (ended["status"], ended["error"]["code"]) == ("failed", "workers_lost")
    assert [run["status"] for run in done] == ["completed"] * (NEIGHBOURS + 1)
    assert deaths == [-9, -9], "the third time it had a process of its own"
    for run in beside:
        look.check_history(running.db, look.row(running.db, run["id"]).session_pk)
    assert [message.content for message in look.log(running.db, poison["id"])] == ["die"]
