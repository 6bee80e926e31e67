"""A file that another user of the machine can have written is not used; the message names it and says what to do."""

import grp
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from api_stub.client import NotConfigured, trust
from api_stub.client.address import find

Spoil = Callable[[Path], object]
SOMEBODY = 65534
FILES = ["api-url", "api-key"]


def to_somebody(path: Path) -> None:
    """Give the file to another user. Only root can, so for others this process becomes that user."""
    if os.geteuid() == 0:
        os.lchown(path, SOMEBODY, SOMEBODY)


def shared_group() -> int | None:
    """Return a group that has other members than this user."""
    return next((each.gr_gid for each in grp.getgrall() if trust._has_other_members(each.gr_gid)), None)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory as `up` makes it."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / ".team-sessions"
    made.mkdir(mode=0o700)
    for name, text in (("api-url", "http://127.0.0.1:8123\n"), ("api-key", "ts_key\n")):
        (made / name).touch(mode=0o600)
        (made / name).write_text(text)
    return made


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


SPOILS: dict[str, tuple[Spoil, str]] = {
    "a symbolic link": (link, "is a symbolic link, not a file. Remove it."),
    "a link to nothing": (lambda path: (path.unlink(), path.symlink_to("nothing")), "is a symbolic link"),
    "a FIFO": (fifo, "is a FIFO, not a file"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), "is a directory, not a file"),
    "a socket": (unix_socket, "is a socket, not a file"),
    "a hard link": (lambda path: path.with_name("other").hardlink_to(path), "has another name elsewhere"),
    "all may write": (lambda path: path.chmod(0o602), r"can be changed by other users (mode 0602). Look"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("spoil", "problem"), SPOILS.values(), ids=SPOILS.keys())
def test_the_client_does_not_use_what_others_can_have_written(
    directory: Path, name: str, spoil: Spoil, problem: str
) -> None:
    """Without waiting for a FIFO. With a URL and a key of its own it does not look at the directory."""
    spoil(directory / name)

    with pytest.raises(NotConfigured, match=f"{re.escape(f'.team-sessions/{name}')}.*{re.escape(problem)}"):
        find(None, None, environment={})
    assert find("http://localhost:1", "key", environment={}).key == "key"


@pytest.mark.parametrize("name", [".", *FILES])
def test_what_belongs_to_another_user_is_not_used(directory: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory or a file. Both users are named."""
    to_somebody(directory / name)
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)

    with pytest.raises(NotConfigured, match=r"belongs to user '?\w+'?, and this command runs as user .*chown"):
        find(None, None, environment={})


def test_a_directory_that_all_may_write_is_not_used(directory: Path) -> None:
    """Whoever may write in it can replace the files."""
    directory.chmod(0o707)

    with pytest.raises(NotConfigured, match=r"'\.team-sessions' can be changed by other users \(mode 0707\)"):
        find(None, None, environment={})


def test_a_link_to_a_directory_of_your_own_is_used(directory: Path) -> None:
    """Of a volume, for example."""
    directory.rename(directory.with_name("volume"))
    directory.symlink_to("volume")

    assert find(None, None, environment={}).key == "ts_key"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user")
def test_a_link_of_another_user_is_not_followed(directory: Path) -> None:
    """It could lead to any directory of yours."""
    directory.rename(directory.with_name("volume"))
    directory.symlink_to("volume")
    to_somebody(directory)

    with pytest.raises(NotConfigured, match="belongs to user"):
        find(None, None, environment={})


def test_a_group_without_other_members_counts_as_the_user(directory: Path) -> None:
    """With umask 002 all files of a user are like that, and in containers those of group 0."""
    for path in (directory, *directory.iterdir()):
        path.chmod(0o770)

    assert find(None, None, environment={}).key == "ts_key"
    assert trust.problem_of_secret(directory / "api-key") is None


@pytest.mark.skipif(os.geteuid() != 0 or shared_group() is None, reason="gives a file to a group with other members")
def test_a_group_with_other_members_is_others(directory: Path) -> None:
    """They can change the file, or read the secret."""
    os.chown(directory / "api-key", -1, shared_group() or 0)

    (directory / "api-key").chmod(0o640)
    assert "can be read by other users (mode 0640)" in (trust.problem_of_secret(directory / "api-key") or "")
    assert trust.problem_of_file(directory / "api-key") is None
    (directory / "api-key").chmod(0o660)
    assert "can be changed by other users" in (trust.problem_of_file(directory / "api-key") or "")


def test_a_file_that_is_no_text_is_named(directory: Path) -> None:
    """In a sentence."""
    (directory / "api-key").write_bytes(b"\xff\xfe")

    with pytest.raises(NotConfigured, match=r"'\.team-sessions/api-key' cannot be read: it is not text in UTF-8"):
        find(None, None, environment={})
