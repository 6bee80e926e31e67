"""What the workload was answered and shown, written down as it happens."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.shown import Shown


@dataclass(slots=True)
class Slot:
    """A session that the workload uses, and how many of its threads do so just now."""

    user: str
    session: str
    team: str
    users: int = 0

    @property
    def place(self) -> tuple[str, str]:
        """What the session is known by."""
        return self.user, self.session


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that was accepted: when it was sent and answered, on one clock. `marker` is in no other input."""

    run_id: str
    place: tuple[str, str]
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
    watched: list[tuple[str, Shown]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def using(self, slots: list[Slot], n: int) -> Iterator[Slot]:
        """Give slot *n*; nobody deletes its session inside the block."""
        with self.lock:
            slot = slots[n]
            slot.users += 1
        try:
            yield slot
        finally:
            with self.lock:
                slot.users -= 1

    def saw(self, run: Any) -> None:
        """Take note of a run as it was answered; if it had ended, it must stay like that."""
        if run["status"] in ("completed", "failed", "cancelled"):
            self.saw_end(run["id"], run["status"], run["output"])

    def saw_end(self, run_id: str, status: str, output: str | None) -> None:
        """Take note of how a run ended; a second time another way is a problem."""
        with self.lock:
            first = self.ended.setdefault(run_id, (status, output))
        if first != (status, output):
            self.problems.append(f"zombie: {run_id} was {first[0]}, and later {status}")
