"""What a worker shares with its lease guard in memory: when it last ran, when it renewed, and the leases that it keeps.

The worker writes it without a system call; the guard reads it whenever it must, also while nothing runs in the worker.
A lease that is read while it is written is at worst one that no row has: the statements of the guard name the owner.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker import clock

# The modules of worker.store whose rows can be leased, and the type of their keys.
KINDS: dict[str, Callable[[str], str | int]] = {"leases": str, "summary_jobs": int}
_NUMBERS = {kind: number for number, kind in enumerate(KINDS, start=1)}
_TIMES = struct.Struct("=dd")  # when the worker last ran; when it last renewed its leases; both on clock.monotonic
_LEASE = struct.Struct("=Bdd64s")  # number of its kind, or 0: none; since when; deadline; key
MOST = 4096  # leases; a worker keeps at most two for each of its slots
SIZE = _TIMES.size + MOST * _LEASE.size


@dataclass(frozen=True, slots=True)
class KeptLease:
    """A lease that the worker keeps. Times are on clock.monotonic, which all processes of a machine share (Linux)."""

    kind: str
    key: str | int
    since: float
    deadline: float


class SharedLeases:
    """The memory behind the file descriptor *fd*, which both processes map. It lives as long as they do."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, SIZE)
        self._free = list(range(MOST - 1, -1, -1))

    @classmethod
    def create(cls) -> "SharedLeases":
        """Return new, empty memory. No file system is needed.

        Raises:
            OSError: there is no memory, or no file handle.
        """
        fd = os.memfd_create("leases")
        os.ftruncate(fd, SIZE)
        return cls(fd)

    def mark_alive(self) -> None:
        """Note that the worker runs."""
        struct.pack_into("=d", self._memory, 0, clock.monotonic())

    def mark_renewed(self, at: float) -> None:
        """Note that the worker renewed all its leases *at* this time."""
        struct.pack_into("=d", self._memory, 8, at)

    @contextmanager
    def keeping(self, kind: str, key: str | int, *, deadline: float) -> Iterator[None]:
        """Show a lease to the guard inside the block, unless there are too many."""
        if not self._free:
            yield
            return
        number = self._free.pop()
        at = _TIMES.size + number * _LEASE.size
        _LEASE.pack_into(self._memory, at, 0, clock.monotonic(), deadline, str(key).encode())
        self._memory[at] = _NUMBERS[kind]  # last: only now the rest is whole
        try:
            yield
        finally:
            self._memory[at] = 0
            self._free.append(number)

    def times(self) -> tuple[float, float]:
        """Return when the worker last ran, and when it last renewed its leases."""
        alive_at, renewed_at = _TIMES.unpack_from(self._memory, 0)
        return alive_at, renewed_at

    def leases(self) -> list[KeptLease]:
        """Return the leases that the worker keeps."""
        kinds = {number: kind for kind, number in _NUMBERS.items()}
        kept = []
        for number, since, deadline, padded in _LEASE.iter_unpack(self._memory[_TIMES.size :]):
            if (kind := kinds.get(number)) is not None:
                key = padded.rstrip(b"\0").decode(errors="replace")
                kept.append(KeptLease(kind, KINDS[kind](key), since, deadline))
        return kept
