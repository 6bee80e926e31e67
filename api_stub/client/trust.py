"""Whether a file can be trusted: whose it is, and who else can change it.

A URL, a key or a database that another user of the machine left in a directory would send your text to that user. So
the data directory and the files in it are used only if they belong to this user or to root, and if no other user can
change them. A group that has no other members counts as the user: many systems give each user such a group. So does
group 0, which containers with any user id run with.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

try:
    import grp
    import pwd
except ImportError:  # Windows, where files have no owner of this kind
    _HAS_OWNERS = False
else:
    _HAS_OWNERS = True

ROOT = 0
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
}


def problem_of_directory(path: Path) -> str | None:
    """Return why the directory cannot be trusted, and what to do. None: it can, or it is missing.

    It may be a symbolic link that belongs to this user or to root.
    """
    for info in _infos(path, follow=False), _infos(path, follow=True):
        if info is not None and (problem := _of_others(path, info)):
            return problem
    return None


def problem_of_file(path: Path) -> str | None:
    """Return why the file cannot be trusted, and what to do. None: it can, or it is missing."""
    info = _infos(path, follow=False)
    if info is None or not _HAS_OWNERS:
        return None
    if not stat.S_ISREG(info.st_mode):
        kind = KINDS.get(stat.S_IFMT(info.st_mode), "a special file")
        return f"{str(path)!r} is {kind}, not a file. Remove it."
    if info.st_nlink > 1:
        return f"{str(path)!r} has another name elsewhere (a hard link). Replace it with a copy, or remove it."
    return _of_others(path, info)


def problem_of_secret(path: Path) -> str | None:
    """Return why the file cannot be trusted, or is not secret, and what to do. None: it can, or it is missing."""
    if problem := problem_of_file(path):
        return problem
    info = _infos(path, follow=False)
    if info is None or not _HAS_OWNERS or not _open_to(info, others=stat.S_IROTH, group=stat.S_IRGRP):
        return None
    return (
        f"{str(path)!r} can be read by other users (mode {stat.S_IMODE(info.st_mode):04o}). If none has read it: "
        f"chmod 600 {str(path)!r}. Else remove it, so that 'up' makes a new one, and revoke the old key."
    )


def _infos(path: Path, *, follow: bool) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _of_others(path: Path, info: os.stat_result) -> str | None:
    if not _HAS_OWNERS:
        return None
    if info.st_uid not in (os.geteuid(), ROOT):
        me, owner = _name(os.geteuid()), _name(info.st_uid)
        return (
            f"{str(path)!r} belongs to {owner}, and this command runs as {me}. Run it as {owner}; or, if you trust "
            f"what is in it, give it to {me} (chown); or name another data directory."
        )
    if not stat.S_ISLNK(info.st_mode) and _open_to(info, others=stat.S_IWOTH, group=stat.S_IWGRP):
        return (
            f"{str(path)!r} can be changed by other users (mode {stat.S_IMODE(info.st_mode):04o}). Look whether one of "
            f"them did, then: chmod go-w {str(path)!r}."
        )
    return None


def _open_to(info: os.stat_result, *, others: int, group: int) -> bool:
    """Tell whether the mode gives one of these rights to a user other than this one and root."""
    return bool(info.st_mode & others) or (bool(info.st_mode & group) and _has_other_members(info.st_gid))


def _has_other_members(gid: int) -> bool:
    if gid == ROOT:
        return False
    ids = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
    members = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid}
    with suppress(KeyError):  # a group without a name, as volumes in containers have
        members |= {ids.get(name, -1) for name in grp.getgrgid(gid).gr_mem}
    return not members <= {os.geteuid(), ROOT}


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user {uid}"
