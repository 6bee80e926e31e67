"""Split an address into its parts, as RFC 3986 does, and refuse what cannot be told apart."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from worker.addresses import AddressError

ENCODE = "Write special characters of the password as %XX: '@' %40, ':' %3A, '/' %2F, '?' %3F, '#' %23, '%' %25."

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"\[([^\[\]]*)\](?::(.*))?|([^:\[\]]*)(?::([^:]*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parts:
    """The decoded parts of an address. `scheme` is in lower case; `path` begins with a slash, or is empty."""

    scheme: str
    username: str | None
    password: str | None = field(repr=False)
    hosts: tuple[tuple[str, int | None], ...]
    path: str
    options: Mapping[str, tuple[str, ...]]


def split(address: str, *, expected: str) -> Parts:
    """Split *address*; blanks and line ends around it do not count. *expected* is how it should look.

    Raises:
        AddressError
    """
    address = address.strip()
    if _CONTROL.search(address):
        raise AddressError(f"it contains a line end or another control character. {ENCODE}")
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise AddressError(f"expected {expected}")
    scheme, authority, path, query, fragment = match.groups()
    login, _, hosts = authority.rpartition("@")
    # Then a part of the password could stand in the path or in the name of an option.
    if fragment is not None or "@" in path + (query or ""):
        raise AddressError(f"it cannot be split at '@', '/', '?' and '#'. {ENCODE}")
    username, _, password = login.partition(":")
    return Parts(
        scheme=scheme.lower(),
        username=decode(username) or None,
        password=decode(password) or None,
        hosts=tuple(_host(host) for host in hosts.split(",")) if hosts else (),
        path=decode(path),
        options=_options(query or ""),
    )


def decode(text: str, *, controls: bool = False) -> str:
    """Return *text* with each %XX decoded. With *controls* it may contain control characters, but no NUL.

    Raises:
        AddressError: it is not UTF-8 then, or contains a control character.
    """
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise AddressError("its %XX are not UTF-8") from None
    if "\0" in decoded or (not controls and _CONTROL.search(decoded)):
        raise AddressError("it contains a control character as %XX")
    return decoded


def _host(text: str) -> tuple[str, int | None]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise AddressError(f"its host cannot be read. Write an IPv6 address in brackets: [::1]. {ENCODE}")
    inner, inner_port, name, name_port = match.groups()
    if inner is not None:
        try:
            ipaddress.IPv6Address(decode(inner))
        except ValueError:
            raise AddressError("its host is in brackets, and is no IPv6 address") from None
    host = decode(inner if inner is not None else name)
    try:
        if not host.startswith("/"):  # a socket of Postgres
            host.encode("idna")
    except UnicodeError:
        raise AddressError(f"its host cannot be the name of a host. {ENCODE}") from None
    return host, port_number(inner_port if inner is not None else name_port)


def port_number(text: str | None) -> int | None:
    """Return the port; None: it is not set.

    Raises:
        AddressError: it is no port.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise AddressError(f"its port is not a number between 1 and 65535. {ENCODE}")
    return int(text)


def _options(query: str) -> dict[str, tuple[str, ...]]:
    options: dict[str, tuple[str, ...]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise AddressError("its options are not UTF-8") from None
    for name, value in pairs:
        if _CONTROL.search(value):
            raise AddressError("it contains a control character as %XX")
        options[name] = (*options.get(name, ()), value)
    return options
