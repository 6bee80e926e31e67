"""How long to wait before a model is asked again."""

import random
from dataclasses import dataclass

from worker.errors import ModelError


@dataclass(frozen=True, slots=True)
class Backoff:
    """The first and the longest wait in seconds. Each wait is twice the one before, with jitter."""

    first_s: float
    longest_s: float

    def wait_s(self, error: ModelError, *, failures: int, max_failures: int) -> float | None:
        """Return the seconds to wait after *failures* in a row before this one; None: do not try again.

        An error that is not counted is retried without end. The model's Retry-After overrides the backoff.
        """
        failures = failures if error.counted else 0
        if not error.retry or (error.counted and failures >= max_failures):
            return None
        if error.retry_after_s is not None:
            return error.retry_after_s
        return min(self.longest_s, self.first_s * 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
