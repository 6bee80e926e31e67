"""The data directory of `team-sessions up`, which one `up` at a time may use."""

import errno
import fcntl
import os
import time
from pathlib import Path

from worker.errors import DirectoryTaken, DirectoryUnusable

LOCK = "up.lock"
WAIT_S = 5.0  # an `up` that is ending holds its lock this long at most, and one that was killed not at all
HELD = (errno.EWOULDBLOCK, errno.EACCES)


def make(path: Path) -> Path:
    """Make the directory for its owner alone, if it is missing, and return its absolute path.

    Raises:
        DirectoryUnusable
    """
    directory = path.absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DirectoryUnusable(directory=str(directory), reason=error.strerror) from error
    return directory


def lock(directory: Path) -> int:
    """Lock the directory until this process ends, however it ends; return the lock's file descriptor.

    The file holds the process id for people. What counts is the kernel's lock, which no child of this process inherits.

    Raises:
        DirectoryTaken: another process has locked it.
        DirectoryUnusable: the file cannot be written.
    """
    file = directory / LOCK
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DirectoryUnusable(directory=str(directory), reason=error.strerror) from error
    deadline = time.monotonic() + WAIT_S
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            pid = os.read(descriptor, 20).decode().strip() or "?"
            os.close(descriptor)
            raise DirectoryTaken(directory=str(directory), pid=pid)
        time.sleep(0.1)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD  # a file system without locks: go on without one
    return True
