"""A process without threads or file handles: its runs are put back, and none fails."""

import errno
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update

from tests.support import look
from tests.support.outcomes import execute
from tests.support.replaying import get_run
from worker import Calls, ScriptedModel, Team, tool
from worker.domain import RunOrder
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.runs.why import why
from worker.store import teams
from worker.store.columns import db_time
from worker.store.tables import runs

TOO_LARGE = 1 << 46  # no system has so much memory for the stack of a thread


@tool
def parcel() -> str:
    """Find the parcel."""
    return "sent"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Threads can be started again after a test."""
    yield
    threading.stack_size(0)


def accepted(runtime: Runtime) -> str:
    """Enqueue a run, and return its id."""
    return enqueue(runtime.db, RunOrder("t", "hello", session_id="s"), settings=runtime.settings).run.id


def its_time_comes(runtime: Runtime, run_id: str) -> None:
    """The run waits no longer."""
    with runtime.db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == run_id).values(not_before=db_time(-1.0)))


def test_a_run_whose_tool_gets_no_thread_is_put_back(process: Callable[..., Runtime]) -> None:
    """Its paid reply is kept, `why` says what it waits for, and the next attempt completes it."""

    def no_more_threads(_request: Any) -> Any:
        threading.stack_size(TOO_LARGE)
        return Calls(("parcel", {}))

    model = ScriptedModel([no_more_threads, "It was sent."])
    runtime = process(Team(id="t", model=model, tools=[parcel]))
    run_id = accepted(runtime)

    first = execute(runtime, run_id, "t")
    threading.stack_size(0)
    with runtime.db.write() as tx:
        teams.announce(tx, worker="other", versions={"t": "1"}, queues=["resumed", "runs"])
    reason = why(runtime.db, runtime.dispatcher, runtime.settings, run_id)
    its_time_comes(runtime, run_id)
    second = execute(runtime, run_id, "t")

    model.check_finished()
    assert (first, second) == ("waits: worker_exhausted", "completed")
    assert (reason.reason, "no threads" in reason.detail) == ("worker_exhausted", True)
    assert [m.content for m in look.log(runtime.db, run_id)][-2:] == ["sent", "It was sent."]


def test_a_run_whose_model_gets_no_file_handle_is_put_back(process: Callable[..., Runtime]) -> None:
    """That is no failure of the model: it is not counted."""

    def no_handle(_request: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    runtime = process(Team(id="t", model=ScriptedModel([no_handle, "hi"])))
    run_id = accepted(runtime)

    first = execute(runtime, run_id, "t")
    retries = look.row(runtime.db, run_id).retries
    its_time_comes(runtime, run_id)

    assert first == "waits: worker_exhausted"
    assert retries == 0
    assert execute(runtime, run_id, "t") == "completed"
    assert get_run(runtime.db, run_id).error is None


def test_a_run_that_needs_too_much_memory_fails_alone(process: Callable[..., Runtime]) -> None:
    """The next one completes."""

    def too_much(_request: Any) -> Any:
        raise MemoryError

    runtime = process(Team(id="t", model=ScriptedModel([too_much, "hi"])))
    run_id, behind = accepted(runtime), accepted(runtime)

    assert execute(runtime, run_id, "t") == "failed: internal"
    assert execute(runtime, behind, "t") == "completed"
