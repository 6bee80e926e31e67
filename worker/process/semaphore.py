"""How many of a kind of work this process does at once, whatever its queue brings."""

import threading


class Semaphore:
    """So many slots. Nobody waits for one: a delivery that finds none is dropped, and rung again when one is free."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """How many are free now."""
        return self._free

    def acquire(self) -> bool:
        """Take one; False: none is free."""
        with self._lock:
            if self._free < 1:
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        """Give one back."""
        with self._lock:
            self._free += 1
