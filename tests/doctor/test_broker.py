"""`team-sessions doctor` names what is wrong with a broker. Each is really so."""

import os
import signal
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from tests.doctor.house import House, configured
from tests.support.system import wait_until
from tests.support.valkey import ValkeyServer
from worker.queue.embedded import free_port

pytestmark = [pytest.mark.extended, pytest.mark.parametrize("installed", ["sqlite"], indirect=True)]
PASSWORD = "hunter2"  # the house looks for it in whatever the doctor says


@pytest.mark.parametrize(
    ("policy", "code", "level"),
    [("allkeys-lru", "broker_evicts", "failed"), ("volatile-lru", "broker_evicts_streams", "warning")],
)
def test_a_broker_that_throws_away_what_it_was_given(installed: House, policy: str, code: str, level: str) -> None:
    """The policy is named, and the command that mends it."""
    with configured(installed, **{"maxmemory-policy": policy}):
        found = installed.ask()

    assert found.ill == {code: level}
    assert repr(policy) in found.told(code)[0]
    assert found.told(code)[1].startswith("CONFIG SET maxmemory-policy noeviction")


def test_a_broker_whose_memory_is_full(installed: House) -> None:
    """With noeviction it then takes no writes."""
    with configured(installed, maxmemory="1mb"):
        found = installed.ask()

    # The API uses the same broker, and says so.
    assert (found.code, found.ill) == (1, {"broker_no_memory": "failed", "api_not_ready": "failed"})


def test_a_broker_that_refuses_our_password(installed: House) -> None:
    """The password is not repeated."""
    found = installed.ask(TEAM_SESSIONS_REDIS_URL=f"redis://:{PASSWORD}@{installed.valkey.url.split('@')[1]}")

    assert (found.code, found.ill) == (1, {"broker_password": "failed"})


def test_a_broker_that_is_not_there(installed: House) -> None:
    """Neither at its port nor by its name."""
    stopped = installed.ask(TEAM_SESSIONS_REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")
    unknown = installed.ask(TEAM_SESSIONS_REDIS_URL=f"redis://:{PASSWORD}@no-such-host.invalid:6379/0")

    assert (stopped.code, stopped.ill) == (1, {"broker_refused": "failed"})
    assert (unknown.code, unknown.ill) == (1, {"broker_unknown_host": "failed"})


def test_a_broker_that_stands_still(installed: House) -> None:
    """Its connections are taken, and never answered; the other checks are made."""
    frozen = ValkeyServer()
    os.kill(frozen.pid, signal.SIGSTOP)

    found = installed.ask(TEAM_SESSIONS_REDIS_URL=frozen.url)

    os.kill(frozen.pid, signal.SIGCONT)
    frozen.close()
    assert (found.code, found.ill) == (1, {"broker_timeout": "failed"})


def test_a_broker_that_is_paused(installed: House) -> None:
    """It lets connections in, and holds their commands."""
    paused = ValkeyServer()
    with Redis.from_url(paused.url) as redis:
        redis.client_pause(60_000)

    found = installed.ask(TEAM_SESSIONS_REDIS_URL=paused.url)

    paused.kill()  # it would hear a request to end only later
    paused.close()
    assert (found.code, found.ill) == (1, {"broker_timeout": "failed"})


def test_a_broker_that_is_a_replica(installed: House) -> None:
    """It answers everything, and takes no write."""
    replica = ValkeyServer()
    with Redis.from_url(replica.url) as redis:
        redis.replicaof("127.0.0.1", free_port())

    found = installed.ask(TEAM_SESSIONS_REDIS_URL=replica.url)

    replica.kill()
    replica.close()
    assert (found.code, found.ill) == (1, {"broker_read_only": "failed"})
    assert "primary" in found.told("broker_read_only")[1]


def test_a_broker_that_cannot_save(installed: House, tmp_path: Path) -> None:
    """A directory stands where its file should; it is set to save, and takes no writes when that fails."""
    broken = ValkeyServer()
    with Redis.from_url(broken.url, decode_responses=True) as redis:
        (Path(redis.config_get("dir")["dir"]) / "dump.rdb").mkdir()
        redis.config_set("save", "3600 1")
        redis.set("a", "b", ex=60)
        redis.bgsave()
        wait_until(
            lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err", description="it could not save"
        )
        with pytest.raises(ResponseError, match="MISCONF"):
            redis.set("a", "b", ex=60)

    found = installed.ask(TEAM_SESSIONS_REDIS_URL=broken.url)

    broken.kill()  # it would not end without having saved
    broken.close()
    assert (found.code, found.ill) == (1, {"broker_cannot_save": "failed"})
    assert "CONFIG SET save ''" in found.told("broker_cannot_save")[1]
