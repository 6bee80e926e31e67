"""What `why` says of a run that executes, of one behind it, and of one that has ended: read from the rows."""

from collections.abc import Callable
from datetime import timedelta
from threading import Thread

import pytest

from tests.support.life import accept, end, take
from tests.support.system import wait_until
from tests.support.valkey import ValkeyServer
from worker import clock
from worker.domain import Claim, Draft, Role, RunError, RunOrder, Status, Stop, ToolCall
from worker.events.model_slots import ModelSlots, waits_for_slot
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher, NoDispatcher
from worker.runs import why as explained
from worker.runs.cancel import cancel
from worker.runs.enqueue import enqueue
from worker.runs.finish import Ending
from worker.runs.why import Why
from worker.settings import Settings
from worker.store import Database, leases, messages, sessions, teams
from worker.store.columns import db_time
from worker.store.tables import messages as message_rows
from worker.store.tables import runs
from worker.store.tables import teams as team_rows

TO_ANN = ToolCall("d", "delegate_task_to_member", '{"member_id": "ann", "task": "secret-text"}')
Explain = Callable[[str], Why]


@pytest.fixture
def why(db: Database) -> Explain:
    with db.write() as tx:
        teams.announce(tx, worker="w", versions={"t": "1"}, queues=["runs", "batch"])
    return lambda run_id: explained.why(db, NoDispatcher(), Settings(), run_id)


def write(db: Database, claim: Claim, *drafts: Draft) -> None:
    """Write messages as the process of the run does."""
    with db.write() as tx:
        last_seq = sessions.advance(tx, claim.session_pk, messages=len(drafts))
        assert last_seq is not None
        messages.append(tx, drafts, session_pk=claim.session_pk, run_id=claim.run_id, last_seq=last_seq)
        tx.execute(runs.update().where(runs.c.id == claim.run_id).values(last_seq=last_seq))


def reply(*calls: ToolCall, delegation: str | None = None) -> Draft:
    return Draft(Role.ASSISTANT, "t" if delegation is None else "ann", "secret-text", calls, delegation=delegation)


def task(delegation: str) -> Draft:
    return Draft(Role.USER, "t", "secret-text", delegation=delegation)


def test_a_silent_model_is_said(db: Database, why: Explain) -> None:
    """And since when: since the last message."""
    claim = take(db, accept(db, "secret-text").run.id)
    at = clock.now() - timedelta(minutes=5)
    with db.write() as tx:
        tx.execute(message_rows.update().values(created_at=at))
        tx.execute(runs.update().values(dispatched_at=at - timedelta(minutes=1)))

    answer = why(claim.run_id)

    since = clock.rfc3339(at)
    assert (answer.reason, answer.facts["waits_for"], answer.facts["since"]) == ("running", "model", since)
    assert answer.detail == f"Worker 'me' executes it. It has waited for its model since {since}."
    sent = clock.now() - timedelta(minutes=1)  # a later attempt waits since it was sent
    with db.write() as tx:
        tx.execute(runs.update().values(dispatched_at=sent))
    assert why(claim.run_id).facts["since"] == clock.rfc3339(sent)


def test_a_tool_and_a_member_are_said(db: Database, why: Explain) -> None:
    """Each that is in progress, by name, the longest first; no text of a message or of an argument."""
    claim = take(db, accept(db, "secret-text").run.id)
    write(db, claim, reply(ToolCall("s", "slow", '{"text": "secret-text"}'), TO_ANN))
    begun = why(claim.run_id)

    write(db, claim, task("2.1"))
    asked = why(claim.run_id)
    write(db, claim, reply(ToolCall("n", "note", "{}"), delegation="2.1"))
    calls = why(claim.run_id)
    write(db, claim, Draft(Role.TOOL, "slow", "secret-text", tool_call_id="s"))
    only = why(claim.run_id)

    assert (begun.facts["waits_for"], begun.facts["tool"]) == ("tool", "slow")
    assert "It has run the tool 'slow' since " in asked.detail
    assert "Its member 'ann' has waited for its model since " in asked.detail
    assert "Its member 'ann' has run the tool 'note' since " in calls.detail
    assert {name: only.facts[name] for name in ("waits_for", "tool", "member")} == {
        "waits_for": "tool",
        "tool": "note",
        "member": "ann",
    }
    assert not [one for one in (begun, asked, calls, only) if "secret-text" in repr(one)]


def test_many_tools_are_counted(db: Database, why: Explain) -> None:
    """One sentence stays readable."""
    claim = take(db, accept(db, "hello").run.id)
    write(db, claim, reply(*(ToolCall(str(n), f"tool_{n}", "{}") for n in range(5))))

    assert why(claim.run_id).detail.endswith(" 2 more are in progress.")


def test_the_reason_at_the_end_of_a_chain_is_said(db: Database, why: Explain) -> None:
    """A run behind others says why the head is not done, however many are between."""
    first, _second, third = (accept(db, str(n)).run.id for n in range(3))
    claim = take(db, first)
    write(db, claim, reply(ToolCall("s", "slow", "{}")))

    answer = why(third)

    assert (answer.reason, answer.facts["behind_run_id"], answer.facts["runs_ahead"]) == ("behind_run", first, 2)
    assert answer.facts["behind_reason"] == "running"
    assert answer.facts["tool"] == "slow"
    behind = f"It is behind run {first!r} of its session. That run: "
    assert answer.detail.startswith(behind + "Worker 'me' executes it. It has run the tool 'slow' since")


def test_a_head_that_waits_for_its_time_is_said_to_hold_up_its_session(db: Database, why: Explain) -> None:
    """Until when, and what would go before it."""
    at = clock.now() + timedelta(hours=1)
    order = RunOrder("t", "later", session_id="s", user_id="u", not_before=at)
    head = enqueue(db, order, settings=Settings()).run.id
    alone = why(head)
    behind = accept(db, "now").run.id

    answer = why(behind)

    assert "behind it" not in alone.detail
    assert "The runs behind it wait with it: 1." in why(head).detail
    assert (answer.facts["behind_reason"], answer.facts["until"]) == ("not_before", clock.rfc3339(at))
    assert "The runs behind it wait with it: 1. A run with on_busy 'pass' goes before it." in answer.detail


def test_a_run_that_a_worker_could_not_execute_says_so(db: Database, why: Explain) -> None:
    """It is no failure of a model."""
    run_id = accept(db, "hello").run.id
    with db.write() as tx:
        leases.put_back(tx, run_id, team="t", wait_s=5)

    answer = why(run_id)

    assert answer.reason == "put_back"
    assert "model" not in answer.detail


def test_an_ended_run_says_how(db: Database, why: Explain) -> None:
    """A failed one its error, and how to try again."""
    failed, cancelled, done = (accept(db, text, session=text).run.id for text in "abc")
    end(db, take(db, failed), Ending(Status.FAILED, error=RunError("model_refused", "Model 'm' refused it.")))
    cancel(db, cancelled)
    end(db, take(db, done), Ending(Status.COMPLETED))

    answer = why(failed)

    retry = "To try it again: team-sessions runs retry"
    assert answer.detail == f"It failed with 'model_refused': Model 'm' refused it. {retry} {failed}"
    assert (answer.reason, answer.facts) == ("finished", {"error_code": "model_refused"})
    assert why(cancelled).detail == f"It was cancelled. {retry} {cancelled}"
    assert why(done).detail == "It has ended: it is completed."


def test_a_worker_that_stopped_was_last_heard_of_when_it_stopped(db: Database, why: Explain) -> None:
    """It counts as gone at once, at the time of its stop."""
    run_id = accept(db, "hello").run.id
    before = clock.now()
    with db.write() as tx:
        teams.leave(tx, worker="w")

    answer = why(run_id)

    assert answer.reason == "team_not_served"
    assert clock.rfc3339(before) <= str(answer.facts["last_heard_at"]) <= clock.rfc3339(clock.now())


def test_a_run_that_waits_for_a_slot_of_its_model_is_said(db: Database, why: Explain, valkey: ValkeyServer) -> None:
    """While as many calls are in flight as the limit allows; the note goes when the wait ends."""
    settings = Settings(redis_url=valkey.url)
    claim = take(db, accept(db, "hello").run.id)
    slots, stop = ModelSlots(valkey.url, prefix="", limit=1), Stop()
    dispatcher = Dispatcher(make_app(settings))

    def wait() -> None:
        with slots.slot("m", stop=stop, run_id=claim.run_id):
            pass

    with slots.slot("m", stop=stop):
        waiting = Thread(target=wait)
        waiting.start()
        wait_until(lambda: waits_for_slot(valkey.url, claim.run_id, prefix=""), description="the run waits")
        answer = explained.why(db, dispatcher, settings, claim.run_id)
    waiting.join()
    slots.close()

    assert (answer.reason, answer.facts["waits_for"], answer.facts["model"]) == ("running", "model_slot", "m")
    assert "TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT" in answer.detail
    assert waits_for_slot(valkey.url, claim.run_id, prefix="") is None


class Depths(Dispatcher):
    """A broker with so many messages in the queue `runs`."""

    def __init__(self, runs: int) -> None:
        self.runs = runs

    def depths(self) -> dict[str, int]:
        """Return them."""
        return {"resumed": 0, "runs": self.runs}


@pytest.mark.parametrize(
    ("waiting", "seen_s", "reason"),
    [(0, 0, "not_claimed"), (3, 0, "in_queue"), (3, 10, "database_not_reached"), (3, 60, "team_not_served")],
)
def test_slots_are_named_only_where_a_run_waits_for_one(db: Database, waiting: int, seen_s: float, reason: str) -> None:
    """It does not if a worker took it from its queue, or if no worker reaches the database."""
    run_id = accept(db, "hello").run.id
    with db.write() as tx:
        teams.announce(tx, worker="w", versions={"t": "1"}, queues=["runs"])
        tx.execute(team_rows.update().values(seen_at=db_time(-seen_s)))

    answer = explained.why(db, Depths(waiting), Settings(), run_id)

    assert answer.reason == reason
    assert ("slot" in answer.detail) is (reason == "in_queue")
    assert ("database" in answer.detail) is (reason != "in_queue")
