"""The data directory of `up`: whether it can be written, has free space and keeps its secrets; and the price list."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from worker.batches import prices
from worker.cli import data_directory
from worker.cli.checks.finding import Finding, Installation, failed, ok, skipped, warning
from worker.cli.data_directory import DATABASE_FILES, FILES, SECRETS
from worker.errors import BatchInvalid, DirectoryUntrusted, DirectoryUnusable
from worker.store import database_probe

LOW_SPACE, NO_SPACE = 1_000_000_000, 50_000_000  # free bytes
MOUNTS = Path("/proc/self/mounts")  # Linux only; elsewhere file systems are not checked
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs")


def check(installation: Installation) -> Iterator[Finding]:
    """Check the files."""
    findings = list(_problems(installation))
    yield from findings
    if findings:
        return
    directory = installation.settings.data_dir
    if directory.is_dir():
        yield ok(f"{str(directory)!r} can be written; {_megabytes(shutil.disk_usage(directory).free)} are free.")
    else:
        yield skipped(f"There is no {str(directory)!r} here: 'team-sessions up' creates it.")


def _problems(installation: Installation) -> Iterator[Finding]:
    yield from _prices(installation)
    directory, database = installation.settings.data_dir, database_probe.file_of(installation.settings.database)
    if directory.exists():
        yield from _access(directory)
        yield from _trust(directory)
        yield from _modes(directory)
    folders = (directory, database.parent) if database else (directory,)
    for folder in {folder.resolve() for folder in folders if folder.is_dir()}:
        yield from space(folder, free=shutil.disk_usage(folder).free)
    if database is not None and MOUNTS.exists():
        yield from file_system(database.absolute(), MOUNTS.read_text(errors="replace"))


def space(folder: Path, *, free: int) -> Iterator[Finding]:
    """Check whether *free* bytes are enough in *folder*."""
    detail = f"{_megabytes(free)} are free in {str(folder)!r}."
    advice = "Free space: an SQLite database that cannot grow accepts no runs. Or move to another disk, or to Postgres."
    if free < NO_SPACE:
        yield failed("disk_full", detail, advice)
    elif free < LOW_SPACE:
        yield warning("disk_nearly_full", detail, advice)


def file_system(file: Path, mounts: str) -> Iterator[Finding]:
    """Check whether *file* is on a disk of this machine, by the lines of /proc/self/mounts."""
    kinds = {Path(fields[1]): fields[2] for fields in map(str.split, mounts.splitlines()) if len(fields) > 2}
    kind = next((kinds[folder] for folder in file.parents if folder in kinds), "")
    if kind in NETWORK:
        detail = f"The SQLite file is on a network file system ({kind}), where its locks do not work."
        yield failed("sqlite_on_network", detail, "Move it to a disk of this machine, or use Postgres.")


def _access(directory: Path) -> Iterator[Finding]:
    if not directory.is_dir():
        detail = f"{str(directory)!r} is not a directory."
        yield failed("data_dir_no_directory", detail, "Name another with --data-dir.")
    elif not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        detail = f"{str(directory)!r} cannot be written by user {os.geteuid()}, who runs this command."
        yield failed("data_dir_not_writable", detail, "Give it to that user (chown), or name another with --data-dir.")


def _trust(directory: Path) -> Iterator[Finding]:
    try:
        data_directory.check(directory, (*SECRETS, *FILES, *DATABASE_FILES))
    except DirectoryUntrusted as error:
        advice = "Until then, 'up' does not start, and no command uses what is in it."
        yield failed("data_dir_untrusted", str(error.facts["problem"]), advice)
    except DirectoryUnusable:
        pass  # the check before says so


def _modes(directory: Path) -> Iterator[Finding]:
    for name in (*SECRETS, *DATABASE_FILES):
        try:
            mode = stat.S_IMODE((directory / name).stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            detail = f"Other users of this machine can read or write {name} (mode {mode:04o})."
            advice = f"chmod 600 {directory / name}"
            if name in SECRETS:
                yield failed("file_open_to_others", detail, f"{advice}. Then replace the secret in it.")
            else:
                yield warning("file_open_to_others", detail, advice)


def _prices(installation: Installation) -> Iterator[Finding]:
    try:
        prices.read(installation.settings.prices)
    except BatchInvalid as error:
        yield failed("prices_unreadable", error.message, "Until then, batches with a budget in money are refused.")


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"
