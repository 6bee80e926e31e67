"""How something stands that a process holds a lease on: a run, or a refresh of a summary."""

from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class LeaseState(Generic[K]):
    """One row. `running` False: nobody holds it any more; another `fence`: somebody else does."""

    key: K
    fence: int
    running: bool
    cancel_requested: bool
