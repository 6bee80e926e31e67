"""Where the client looks for the API and its key, and what it brings along."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from api_stub.client import AsyncClient, Client, NotConfigured
from api_stub.client.address import find


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which `up` was started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".team-sessions").mkdir()
    (tmp_path / ".team-sessions/api-url").write_text("http://192.0.2.7:8123\n")
    (tmp_path / ".team-sessions/api-key").write_text("written\n")
    return tmp_path


def found(url: str | None = None, key: str | None = None, **environment: str) -> tuple[str, str]:
    address = find(url, key, environment={f"TEAM_SESSIONS_{name}": value for name, value in environment.items()})
    return address.url, address.key


def test_the_caller_comes_first_then_the_environment_then_what_up_wrote(here: Path) -> None:
    """Each of the two by itself."""
    named = {"URL": "https://api.example", "KEY": "named"}

    assert found() == ("http://192.0.2.7:8123", "written")
    assert found(**named) == ("https://api.example", "named")
    assert found("http://other", "given", **named) == ("http://other", "given")
    assert found(None, "given") == ("http://192.0.2.7:8123", "given")
    assert found(KEY="named") == ("http://192.0.2.7:8123", "named")
    assert found(URL="", KEY="") == found()


def test_another_directory_can_be_named(here: Path) -> None:
    """As `up --data-dir` has it."""
    (here / ".team-sessions").rename(here / "elsewhere")

    assert found(DATA_DIR=str(here / "elsewhere")) == ("http://192.0.2.7:8123", "written")
    (here / "elsewhere/api-url").unlink()
    assert found(DATA_DIR="elsewhere") == ("http://127.0.0.1:8000", "written")


@pytest.mark.parametrize("url", ["http://localhost:9", "http://127.0.0.1:9", "http://[::1]:9", "http://192.0.2.7:8123"])
def test_the_key_of_this_machine_is_for_this_machine(here: Path, url: str) -> None:
    """However it is called, or as `up` has written it."""
    assert found(URL=url) == (url, "written")


@pytest.mark.parametrize("url", ["https://api.example", "http://192.0.2.8:8123", "http://localhost.example"])
def test_the_key_of_this_machine_goes_nowhere_else(here: Path, url: str) -> None:
    """Another API gets the key that is meant for it, or none."""
    with pytest.raises(NotConfigured, match="Set TEAM_SESSIONS_KEY"):
        found(URL=url)


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_without_a_key_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: type) -> None:
    """Start one here, or name one."""
    monkeypatch.chdir(tmp_path)
    expected = r"no key in '\.team-sessions/api-key'\. Start 'team-sessions up' in this directory, or set TEAM_SESSIONS"

    with pytest.raises(NotConfigured, match=expected):
        client()


def test_a_key_that_may_not_be_read_is_no_missing_key(here: Path) -> None:
    """The message names the file. (A directory in its place: root may read every file.)"""
    (here / ".team-sessions/api-key").unlink()
    (here / ".team-sessions/api-key").mkdir()

    with pytest.raises(NotConfigured, match=r"'\.team-sessions/api-key' is a directory, not a file"):
        found()


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1", "ftp://host", "http://", "http://[x", "http://h:99999"])
def test_an_address_that_is_none_is_told_at_once(url: str) -> None:
    """And not after many tries to reach it."""
    with pytest.raises(NotConfigured, match="Expected http://HOST:PORT"):
        Client(url, "key")


@pytest.mark.parametrize("key", ["two words", "line\nend", "schlüssel", " padded"])
def test_a_key_that_cannot_be_one_is_not_shown(key: str) -> None:
    """It may be half of a right one."""
    with pytest.raises(NotConfigured) as refused:
        Client("http://localhost", key)

    assert key not in str(refused.value)
    assert "secret" not in repr(find("http://localhost", "secret", environment={}))


def test_both_clients_can_do_the_same() -> None:
    """The same methods, with the same parameters, told in the same words."""
    names = [name for name in dir(Client) if not name.startswith("_") and name != "close"]

    assert len(names) == 33
    assert names == [name for name in dir(AsyncClient) if not name.startswith("_") and name != "aclose"]
    for name in names:
        one, other = getattr(Client, name), getattr(AsyncClient, name)
        assert one.__doc__ == other.__doc__
        assert one.__name__ == name
        assert inspect.signature(one) == inspect.signature(other)
    shown = inspect.signature(Client("http://localhost", "k").enqueue)
    assert list(shown.parameters)[:3] == ["team", "input", "session_id"]


def test_the_client_brings_nothing_of_the_worker_along() -> None:
    """A service that only enqueues needs neither Celery nor a database."""
    rooms = (
        "worker",
        "celery",
        "kombu",
        "sqlalchemy",
        "alembic",
        "redis",
        "fastapi",
        "starlette",
        "pydantic",
        "openai",
    )
    code = f"import sys, api_stub.client; print([name for name in {rooms!r} if name in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )

    assert done.stdout.strip() == "[]"
