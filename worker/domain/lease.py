"""The state of a row that a process holds a lease on: a run, or a refresh of a summary."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseState:
    """One row. `running` False: no process holds it any more. Another `fence`: another process does."""

    key: str | int
    fence: int
    running: bool
    cancel_requested: bool
