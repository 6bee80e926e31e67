"""The data directory of `team-sessions up`, which one `up` at a time may use, and which no other user can have written.

Its files are made for the owner alone, whatever the umask is, and never written through a link.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from api_stub.client import trust
from worker.errors import DirectoryTaken, DirectoryUntrusted, DirectoryUnusable

LOCK = "up.lock"
DATABASE = "team-sessions.db"
DATABASE_FILES = tuple(DATABASE + end for end in ("", "-wal", "-shm", "-journal"))
SECRETS = ("api-key", "flower-login", "broker-url")
FILES = ("api-url", "flower-url", LOCK)
WAIT_S = 5.0  # an `up` that is ending holds its lock this long at most, and one that was killed not at all
HELD = (errno.EWOULDBLOCK, errno.EACCES)


def make(path: Path) -> Path:
    """Make the directory for its owner alone, if it is missing, check it, and return its absolute path.

    Raises:
        DirectoryUnusable
        DirectoryUntrusted: another user can have written a file in it, or read a secret.
    """
    directory = path.absolute()
    try:
        for parent in reversed(directory.parents):
            if not parent.exists():
                parent.mkdir(mode=0o755, exist_ok=True)
        directory.mkdir(exist_ok=True, mode=0o700)
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise DirectoryUnusable(directory=str(directory), reason=error.strerror) from error
    check(directory, FILES + DATABASE_FILES)
    for name in SECRETS:
        _trust(directory, trust.problem_of_secret, directory / name)
    return directory


def check(directory: Path, names: tuple[str, ...] = DATABASE_FILES) -> None:
    """Check that no other user can have written the directory and the files *names* in it, as far as they exist.

    Raises:
        DirectoryUnusable, DirectoryUntrusted
    """
    _trust(directory, trust.problem_of_directory, directory)
    for name in names:
        _trust(directory, trust.problem_of_file, directory / name)


def _trust(directory: Path, problem_of: Callable[[Path], str | None], path: Path) -> None:
    try:
        problem = problem_of(path)
    except OSError as error:
        raise DirectoryUnusable(directory=str(directory), reason=error.strerror) from error
    if problem is not None:
        raise DirectoryUntrusted(problem=problem)


def read(file: Path) -> bytes:
    """Return what is in a file, and nothing if there is none.

    Raises:
        DirectoryUnusable
    """
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DirectoryUnusable(directory=str(file.parent), reason=f"{file.name}: {error.strerror}") from error


def write(file: Path, text: str) -> None:
    """Write a new file that only its owner can read, in place of an old one.

    Raises:
        DirectoryUnusable
    """
    try:
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise DirectoryUnusable(directory=str(file.parent), reason=f"{file.name}: {error.strerror}") from error


def make_private(file: Path) -> None:
    """Make a file that only its owner can read, or let only the owner read the one that is there.

    SQLite gives its journals the mode of the database file, so this is called before SQLite makes one.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return  # SQLite will say why
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def lock(directory: Path) -> int:
    """Lock the directory until this process ends, however it ends; return the lock's file descriptor.

    The file holds the process id for people. What counts is the kernel's lock, which no child of this process inherits.

    Raises:
        DirectoryTaken: another process has locked it.
        DirectoryUnusable: the file cannot be written.
    """
    file = directory / LOCK
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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
