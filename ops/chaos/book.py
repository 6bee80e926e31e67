"""A record of what the API answered to the workload and what its watchers received."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from api_stub.client import RequestFailed, Unreachable
from tests.support.run_view import RunView


@dataclass(slots=True)
class Slot:
    """A session of the workload, and how many of its threads use it now."""

    user: str
    session: str
    team: str
    users: int = 0

    @property
    def session_key(self) -> tuple[str, str]:
        """User id and session id."""
        return self.user, self.session


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted run: when its request was sent and answered, by one clock. `marker` is in no other input."""

    run_id: str
    session_key: tuple[str, str]
    marker: str
    on_busy: str
    sent: float
    answered: float


@dataclass(slots=True)
class Book:
    """Written by the threads of the workload, read by the checker once they have ended."""

    accepted: list[Accepted] = field(default_factory=list)
    deleted: set[tuple[str, str]] = field(default_factory=set)
    renamed: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # the names that were tried
    ended: dict[str, tuple[str, str | None]] = field(default_factory=dict)  # run → status, output
    watched: list[tuple[str, RunView]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def using(self, slots: list[Slot], n: int) -> Iterator[Slot]:
        """Yield slot *n*; its session is not deleted inside the block."""
        with self.lock:
            slot = slots[n]
            slot.users += 1
        try:
            yield slot
        finally:
            with self.lock:
                slot.users -= 1

    def was_refused(self, error: RequestFailed | Unreachable) -> None:
        """Note a request that the API did not carry out; an unexpected error of the API is a problem."""
        self.refused["unreachable" if isinstance(error, Unreachable) else error.code] += 1
        if isinstance(error, RequestFailed) and error.status == 500:
            self.problems.append(f"unexpected: the API answered 500, {error.code}")

    def saw(self, run: Any) -> None:
        """Note a run from a response; if it has ended, it must not change."""
        if run["status"] in ("completed", "failed", "cancelled"):
            self.saw_end(run["id"], run["status"], run["output"])

    def saw_end(self, run_id: str, status: str, output: str | None) -> None:
        """Note how a run ended; a different second end is a problem."""
        with self.lock:
            first = self.ended.setdefault(run_id, (status, output))
        if first != (status, output):
            self.problems.append(f"zombie: {run_id} was {first[0]}, and later {status}")
