"""What the doctor says of disks, by what the system tells of them."""

from pathlib import Path

import pytest

from worker.cli.checks import directory

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/ada/disk xfs rw 0 0
"""

pytestmark = pytest.mark.extended


@pytest.mark.parametrize(
    ("free", "codes"),
    [(2_000_000, ["disk_full"]), (500_000_000, ["disk_nearly_full"]), (50_000_000_000, [])],
)
def test_little_room_is_told(tmp_path: Path, free: int, codes: list[str]) -> None:
    """Before SQLite finds out; how much is left is told."""
    found = list(directory.space(tmp_path, free=free))

    assert [finding.code for finding in found] == codes
    assert all(f"{free // 1_000_000} MB are free" in finding.detail for finding in found)


@pytest.mark.parametrize(
    ("file", "codes"),
    [("/home/ada/a.db", ["sqlite_on_network"]), ("/home/ada/disk/a.db", []), ("/var/a.db", []), ("/homely/a.db", [])],
)
def test_a_file_on_the_network_is_told(file: str, codes: list[str]) -> None:
    """The innermost mount counts."""
    assert [finding.code for finding in directory.file_system(Path(file), MOUNTS)] == codes
