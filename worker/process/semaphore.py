"""A limit on how much of one kind of work a process does at once, however much its queues deliver."""

import threading


class Semaphore:
    """A counting semaphore without waiting, that knows how many slots are free.

    A delivery that finds no free slot is dropped, and sent again when one is free.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """How many slots are free now."""
        return self._free

    def acquire(self) -> bool:
        """Take a slot; False: none is free."""
        with self._lock:
            if self._free < 1:
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._free += 1
