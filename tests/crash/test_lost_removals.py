"""A worker that is killed while it removes what is over: nothing is half gone, and the next one goes on."""

import pytest
from sqlalchemy import func, select

from tests.support.ageing import check_whole
from tests.support.crowd import BEGIN
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer
from worker.store.tables import messages, runs, sessions

pytestmark = [pytest.mark.processes, pytest.mark.extended]
SESSIONS, RUNS, KILLS = 600, 4, 2
ZEROS = ("attempt", "fence", "losses", "retries", "model_calls", "input_tokens", "cached_input_tokens", "output_tokens")


def write(running: System) -> None:
    """Write sessions whose runs have ended long ago, as rows: each run of two messages."""
    ours = {"user_id": "u", "team_id": "plain"}
    times = {"created_at": BEGIN, "finished_at": BEGIN}
    ended = {"status": "completed", "input": "hello", "excluded": False, "metadata": {}, **dict.fromkeys(ZEROS, 0)}
    empty = {"tags": [], "metadata": {}, "state": {}, "run_count": RUNS, "last_seq": 2 * RUNS}
    places = [(pk, n) for pk in range(1, SESSIONS + 1) for n in range(RUNS)]
    with running.db.write() as tx:
        tx.execute(
            sessions.insert(),
            [
                ours | empty | {"pk": pk, "session_id": f"s{pk}", "created_at": BEGIN, "updated_at": BEGIN}
                for pk in range(1, SESSIONS + 1)
            ],
        )
        tx.execute(
            runs.insert(),
            [
                ours
                | times
                | ended
                | {"id": f"run_{pk}_{n}", "session_pk": pk, "position": n + 1}
                | {"first_seq": 2 * n + 1, "last_seq": 2 * n + 2}
                for pk, n in places
            ],
        )
        said = {"author": "u", "content": "hello", "created_at": BEGIN}
        tx.execute(
            messages.insert(),
            [
                said | {"session_pk": pk, "seq": 2 * n + k, "run_id": f"run_{pk}_{n}", "role": role}
                for pk, n in places
                for k, role in ((1, "user"), (2, "assistant"))
            ],
        )


@pytest.mark.parametrize("what", ["sessions", "runs"])
def test_a_worker_that_is_killed_while_it_removes_leaves_nothing_half_gone(
    running: System, valkey: ValkeyServer, what: str
) -> None:
    """Kill -9 in the middle, twice; each time the next worker goes on, to the end."""
    write(running)
    table = sessions if what == "sessions" else runs
    all_there = SESSIONS if what == "sessions" else SESSIONS * RUNS
    setting = {f"TEAM_SESSIONS_KEEP_{what.upper()}_DAYS": "1"}

    def there() -> int:
        with running.db.read() as tx:
            return int(tx.execute(select(func.count()).select_from(table)).scalar_one())

    before = all_there
    for _ in range(KILLS):
        worker = running.start_worker(queues="batch,summaries", **setting)
        wait_until(lambda before=before: there() < before, description="some have gone")
        worker.kill()
        worker.wait()
        check_whole(running.db)
        before = there()
    assert 0 < before < all_there, "it was killed in the middle"
    running.start_worker(queues="batch,summaries", **setting)
    wait_until(lambda: there() == 0, description="all have gone", timeout_s=600)

    check_whole(running.db)
    with running.db.read() as tx:
        left = [tx.execute(select(func.count()).select_from(one)).scalar_one() for one in (sessions, runs, messages)]
    assert left == ([0, 0, 0] if what == "sessions" else [SESSIONS, 0, 0])
    last = f"worker-{KILLS + 1}"  # the others may have been killed before they said it
    wait_until(lambda: "removed at the end of its lifetime" in running.log(last), description="it is said")
    assert "WARNING" not in "".join(running.log(f"worker-{n}") for n in range(1, KILLS + 2))
