"""The log line of each delivery: what it was about, how it ended, and how long it took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker import clock
from worker.domain import End, Outcome
from worker.domain.outcome import NOT_CLAIMED
from worker.observe import logs

log = logs.get(__name__)

# Something failed, in the run or around it. Another attempt may succeed.
PROBLEMS = frozenset({End.FAILED, End.WAITS, End.LEASE_LOST, End.DATABASE_UNAVAILABLE, End.DATABASE_AWAY})


@contextmanager
def delivery(text: str, **fields: object) -> Iterator[Callable[[Outcome], Outcome]]:
    """Yield a function that logs how a delivery ended, and returns its outcome.

    It logs *text*, at WARNING after a problem, else at INFO. *fields* (its queue, team and ids) are added to every line
    inside the block.
    """
    started_at = clock.monotonic()

    def ended(outcome: Outcome) -> Outcome:
        found: dict[str, object] = {"outcome": outcome.end.value}
        if outcome.attempt is not None:
            found["attempt"] = outcome.attempt
        if outcome.detail is not None:
            found["error" if outcome.end in PROBLEMS else "detail"] = outcome.detail
        found["seconds"] = round(clock.monotonic() - started_at, 3)
        write = log.warning if outcome.end in PROBLEMS else log.info
        write("delivery did nothing" if outcome.end in NOT_CLAIMED else text, **found)
        return outcome

    with logs.bound(**fields):
        yield ended
