"""The data directory of `up`: whether it can be written, has room, and keeps its secrets; and the price list."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from worker.batches import prices
from worker.cli.checks.finding import Finding, Installation, failed, ok, skipped, warning
from worker.errors import BatchInvalid
from worker.store import database_probe

SECRETS = ("api-key", "flower-login")
DATABASE = ("team-sessions.db", "team-sessions.db-wal", "team-sessions.db-shm")
LITTLE, TOO_LITTLE = 1_000_000_000, 50_000_000  # bytes that are free
MOUNTS = Path("/proc/self/mounts")  # Linux; elsewhere nothing is said about file systems
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs")


def look(installation: Installation) -> Iterator[Finding]:
    """Whatever stands in files."""
    troubles = list(_troubles(installation))
    yield from troubles
    if troubles:
        return
    directory = installation.settings.data_dir
    if directory.is_dir():
        yield ok(f"{str(directory)!r} can be written; {_megabytes(shutil.disk_usage(directory).free)} are free.")
    else:
        yield skipped(f"There is no {str(directory)!r} here: 'team-sessions up' makes it.")


def _troubles(installation: Installation) -> Iterator[Finding]:
    yield from _prices(installation)
    directory, database = installation.settings.data_dir, database_probe.file_of(installation.settings.database)
    if directory.exists():
        yield from _access(directory)
        yield from _modes(directory)
    for place in {place.resolve() for place in (directory, *([database.parent] if database else [])) if place.is_dir()}:
        yield from space(place, free=shutil.disk_usage(place).free)
    if database is not None and MOUNTS.exists():
        yield from file_system(database.absolute(), MOUNTS.read_text(errors="replace"))


def space(place: Path, *, free: int) -> Iterator[Finding]:
    """Whether *free* bytes are enough in *place*."""
    detail = f"{_megabytes(free)} are free in {str(place)!r}."
    advice = "Make room: an SQLite database that cannot grow takes no run. Or move to another disk, or to Postgres."
    if free < TOO_LITTLE:
        yield failed("disk_full", detail, advice)
    elif free < LITTLE:
        yield warning("disk_nearly_full", detail, advice)


def file_system(file: Path, mounts: str) -> Iterator[Finding]:
    """Whether *file* stands on a disk of this machine, by the lines of /proc/self/mounts."""
    kinds = {Path(fields[1]): fields[2] for fields in map(str.split, mounts.splitlines()) if len(fields) > 2}
    kind = next((kinds[place] for place in file.parents if place in kinds), "")
    if kind in NETWORK:
        detail = f"The SQLite file stands on a network file system ({kind}), where its locks do not hold."
        yield failed("sqlite_on_network", detail, "Move it to a disk of this machine, or use Postgres.")


def _access(directory: Path) -> Iterator[Finding]:
    if not directory.is_dir():
        yield failed("data_dir_no_directory", f"{str(directory)!r} is no directory.", "Name another with --data-dir.")
    elif not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        detail = f"{str(directory)!r} cannot be written by the user {os.geteuid()} whom this runs as."
        yield failed("data_dir_not_writable", detail, "Give it to that user (chown), or name another with --data-dir.")


def _modes(directory: Path) -> Iterator[Finding]:
    for name in (*SECRETS, *DATABASE):
        try:
            mode = stat.S_IMODE((directory / name).stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            detail = f"{name} can be read or written by others of this machine (mode {mode:04o})."
            more = " Then rotate what it holds." if name in SECRETS else ""
            finding = failed if name in SECRETS else warning
            yield finding("file_open_to_others", detail, f"chmod 600 {directory / name}{more and '.' + more}")


def _prices(installation: Installation) -> Iterator[Finding]:
    try:
        prices.read(installation.settings.prices)
    except BatchInvalid as error:
        detail = error.message
        yield failed("prices_unreadable", detail, "A batch with a budget in money is refused until then.")


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"
