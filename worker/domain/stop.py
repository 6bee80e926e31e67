"""How a run that is being executed is asked to stop.

The keeper, a deadline or a deploy sets the reason from its own thread. A thread that waits for a model or a tool
is woken at once, through the callback that it registered.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Reason(StrEnum):
    """Why an attempt stops before its run is done."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    HANDED_OVER = "handed_over"
    LEASE_LOST = "lease_lost"


class Stopped(Exception):
    """The attempt was asked to stop."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Paused(Exception):
    """All that is left to do waits for a decision."""


class Stop:
    """Whether an attempt must stop, and why. The first reason stays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._at_boundary = False
        self._leaving = False
        self._above: Stop | None = None
        self._callbacks: list[Callable[[], object]] = []

    @property
    def reason(self) -> Reason | None:
        return self._reason

    @property
    def leaving(self) -> bool:
        """Whether the process must end now, so that what the attempt holds can wait no longer to be written."""
        return self._leaving

    def set(self, reason: Reason) -> None:
        """Stop at once: what is in flight is ended."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def leave(self) -> None:
        """Stop at once because the process must end. Also after another reason."""
        self._leaving = True
        self.set(Reason.HANDED_OVER)

    def set_at_boundary(self) -> None:
        """Hand the run over at its next message boundary; what is in flight may end first."""
        self._at_boundary = True

    def check(self, *, boundary: bool = False) -> None:
        """Raise Stopped if the attempt was asked to stop; at a boundary also if it is to be handed over."""
        if self._reason is not None:
            raise Stopped(self._reason)
        if boundary and self._ends_at_boundary():
            raise Stopped(Reason.HANDED_OVER)

    @contextmanager
    def below(self) -> Iterator["Stop"]:
        """A Stop for a part of the attempt: it is set with this one, and can be set without it."""
        part = Stop()
        part._above = self
        with self.calling(lambda: part.set(self._reason or Reason.HANDED_OVER)):
            yield part

    def _ends_at_boundary(self) -> bool:
        return self._at_boundary or (self._above is not None and self._above._ends_at_boundary())

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call *callback* once if the stop is set inside the block, or was before it."""
        with self._lock:
            set_before = self._reason is not None
            if not set_before:
                self._callbacks.append(callback)
        if set_before:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
