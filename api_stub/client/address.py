"""Where the API is, and with which key to ask it: what the caller says, else the environment, else what `up` wrote.

    TEAM_SESSIONS_URL, TEAM_SESSIONS_KEY    of any API
    ./.team-sessions/api-url, api-key       of the one that `team-sessions up` started in this directory
                                            (elsewhere with TEAM_SESSIONS_DATA_DIR)

The key in the file is sent to this machine only, whatever TEAM_SESSIONS_URL says.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from api_stub.client.errors import NotConfigured

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to ask, and with which key."""

    url: str
    key: str = field(repr=False)


def find(url: str | None, key: str | None, *, environment: Mapping[str, str]) -> Address:
    """Return the address that is meant.

    Raises:
        NotConfigured: there is no key for it, or it is no address.
    """
    directory = Path(environment.get("TEAM_SESSIONS_DATA_DIR") or ".team-sessions")
    written_url = _read(directory / "api-url")
    url = url or environment.get("TEAM_SESSIONS_URL") or written_url or DEFAULT_URL
    host = _host(url)
    key = key or environment.get("TEAM_SESSIONS_KEY")
    if not key and (url == written_url or _is_here(host)):
        key = _read(directory / "api-key")
        if key is None:
            raise NotConfigured(
                f"There is no key in {str(directory / 'api-key')!r}. Start 'team-sessions up' in this directory, or "
                "set TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY."
            )
    if not key:
        raise NotConfigured(f"There is no key for the API at {host!r}. Set TEAM_SESSIONS_KEY.")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise NotConfigured("The key holds a character that no key has: a space, an end of line, an umlaut.")
    return Address(url, key)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotConfigured("The address of the API cannot be read. Expected http://HOST:PORT or https://HOST.")
    return parts.hostname


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotConfigured(f"{str(path)!r} cannot be read: {error.strerror}.") from error
