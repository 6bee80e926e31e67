"""The state of a row that a process holds a lease on: a run, or a refresh of a summary."""

from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class LeaseState(Generic[K]):
    """One row. `running` False: no process holds it any more. Another `fence`: another process does."""

    key: K
    fence: int
    running: bool
    cancel_requested: bool
