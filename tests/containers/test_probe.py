"""The health checks that an image brings, asked of real things."""

from pathlib import Path

import pytest

from ops.docker import probe
from worker.store import Database, teams


@pytest.mark.parametrize(("host", "heard"), [("worker-1", True), ("worker", False), ("worker_1", False)])
def test_a_worker_is_healthy_while_its_host_is_heard_of(
    db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, host: str, heard: bool
) -> None:
    """Another host's worker is not its own, and one that has signed off is none."""
    monkeypatch.setenv("TEAM_SESSIONS_DATABASE_URL", database_url)
    with db.write() as tx:
        teams.announce(tx, worker="worker-1:1:abcd", versions={"team": "1"}, queues=["runs"])

    while_announced = probe.worker_serves(host)
    with db.write() as tx:
        teams.leave(tx, worker="worker-1:1:abcd")

    assert (while_announced, probe.worker_serves(host)) == (heard, False)


def test_without_a_database_no_worker_is_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an answer, not an error."""
    monkeypatch.setenv("TEAM_SESSIONS_DATABASE_URL", f"postgresql://nobody@/none?host={tmp_path}")

    assert probe.worker_serves("worker-1") is False
