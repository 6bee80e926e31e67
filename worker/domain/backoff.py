"""How a model is asked again: at once, or after a wait that grows."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from worker.domain.chat import Reply
from worker.errors import ModelAnswerInvalid, ModelEmptyReply, ModelError, ModelStreamBroken

AT_ONCE = 2  # how often a model is asked again after a blank reply, without a wait
LONGEST_SILENCE = 8  # times the setting


@dataclass(frozen=True, slots=True)
class Backoff:
    """The first and the longest wait in seconds. Each wait is twice the one before, with jitter."""

    first_s: float
    longest_s: float

    def wait_s(self, error: ModelError, *, failures: int, max_failures: int) -> float | None:
        """Return the seconds to wait after *failures* in a row before this one; None: do not try again.

        An error that is not counted is retried without end. The model's Retry-After is the first wait; later ones are
        as long at least. A server that says one second in each refusal would otherwise use up all retries in seconds.
        """
        failures = failures if error.counted else 0
        if not error.retry or (error.counted and failures >= max_failures):
            return None
        own_s = min(self.longest_s, self.first_s * 2.0**failures) * random.uniform(0.75, 1.0)  # noqa: S311 - no secret
        if error.retry_after_s is None:
            return own_s
        return max(error.retry_after_s, own_s) if failures else error.retry_after_s


def silence_limit(first_s: float, *, failures: int) -> float:
    """Return how long a model may send nothing, after *failures* in a row: each retry waits twice as long.

    A model that is slow at every try would otherwise be cut off, and paid, until its run fails.
    """
    return first_s * min(LONGEST_SILENCE, 2.0 ** min(failures, 10))


def ask_again_at_once(ask: Callable[[], Reply], *, most: int, before_each: Callable[[], object]) -> Reply:
    """Return the reply of *ask*. After a blank reply it is called again twice, after an unreadable one once.

    It is called again at most *most* times; *before_each* is called before. An answer that cannot be read twice in the
    same way is final: waiting would not change it.

    Raises:
        ModelStreamBroken: two answers could not be read, in different ways.
    """
    unread: ModelAnswerInvalid | None = None
    for again in count():
        try:
            return ask()
        except ModelEmptyReply:
            if again >= min(most, AT_ONCE):
                raise
        except ModelAnswerInvalid as error:
            if error.retry:
                raise
            if unread is not None and unread.fingerprint != error.fingerprint:
                raise ModelStreamBroken(model=error.facts["model"], reason="two answers cannot be read") from error
            if unread is not None or again >= min(most, AT_ONCE):
                raise
            unread = error
        before_each()
    raise AssertionError("unreachable")
