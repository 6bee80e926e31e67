"""The URL of the API and its key: the caller's, else the environment's, else those that `team-sessions up` wrote.

    TEAM_SESSIONS_URL, TEAM_SESSIONS_KEY    of any API
    ./.team-sessions/api-url, api-key       of the API that `team-sessions up` started in this directory
                                            (in another one with TEAM_SESSIONS_DATA_DIR)
    TEAM_SESSIONS_CA_FILE                   certificate authorities of an https:// address, if not the system's

The key in the file is sent to this machine only, even if TEAM_SESSIONS_URL names another. The directory and its files
are used only if no other user of the machine can have written them (`trust`).
"""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from api_stub.client import trust
from api_stub.client.errors import NotConfigured

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Address:
    """The URL of the API, the key for it, and whom its certificate is checked against."""

    url: str
    key: str = field(repr=False)
    authorities: ssl.SSLContext | None = field(default=None, repr=False)  # None: those of the system

    @property
    def origin(self) -> str:
        """The URL for error messages: without a password, and without a path."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def find(url: str | None, key: str | None, *, environment: Mapping[str, str]) -> Address:
    """Return the address of the API.

    Raises:
        NotConfigured: there is no key; the URL, the key or the file of authorities is not valid; or another user can
            have written the files.
    """
    directory = Path(environment.get("TEAM_SESSIONS_DATA_DIR") or ".team-sessions")
    url = url or environment.get("TEAM_SESSIONS_URL", "").strip()
    key = key or environment.get("TEAM_SESSIONS_KEY", "").strip()
    written_url = None if url and key else _read(directory / "api-url")
    url = url or written_url or DEFAULT_URL
    host = _host(url)
    if not key and (url == written_url or _is_local(host)):
        key = _read(directory / "api-key")
        if key is None:
            raise NotConfigured(
                f"There is no key in {str(directory / 'api-key')!r}. Start 'team-sessions up' in this directory, or "
                "set TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY."
            )
    if not key:
        raise NotConfigured(f"There is no key for the API at {host!r}. Set TEAM_SESSIONS_KEY.")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise NotConfigured("The key holds a space, a line end or another character that no key has. Copy it again.")
    return Address(url, key, _authorities(url, environment))


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotConfigured("The URL of the API is not valid. Expected http://HOST:PORT or https://HOST.")
    return parts.hostname


def _authorities(url: str, environment: Mapping[str, str]) -> ssl.SSLContext | None:
    file = environment.get("TEAM_SESSIONS_CA_FILE")
    if not file or not url.startswith("https:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
        return context
    except OSError:  # an SSLError is one
        raise NotConfigured("TEAM_SESSIONS_CA_FILE holds no certificates in PEM format, or cannot be read.") from None


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path) -> str | None:
    try:
        if problem := trust.problem_of_directory(path.parent) or trust.problem_of_file(path):
            raise NotConfigured(problem)
        return path.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotConfigured(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError:
        raise NotConfigured(f"{str(path)!r} cannot be read: it is not text in UTF-8.") from None
