"""The address of the broker: `redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]`, with TLS `rediss://`.

kombu and redis-py read the options of an address differently. So both get what is parsed here. Options that say who
connects, and how with TLS, are used. Timeouts, pools and the like are part of how each connection here works: such
options are refused.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from worker.addresses import AddressError
from worker.addresses.parts import ENCODE, Parts, split

EXPECTED = "redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER], or rediss://… with TLS"

_SENTINEL = "Sentinel is not supported: name the primary, or a proxy that follows it, as redis://HOST:PORT"
_CLUSTER = "Redis Cluster is not supported: name a single server, as redis://HOST:PORT"
_SOCKET = "Unix sockets are not supported: let the server listen on loopback, and write redis://127.0.0.1:PORT"
_SCHEMES = {
    **dict.fromkeys(("sentinel", "sentinels", "redis+sentinel", "rediss+sentinel", "redis-sentinel"), _SENTINEL),
    **dict.fromkeys(("redis+cluster", "rediss+cluster", "redis-cluster", "rediss-cluster"), _CLUSTER),
    **dict.fromkeys(("unix", "redis+socket", "redis-socket", "redis+unix", "unix+redis"), _SOCKET),
    "valkey": "write redis:// also for Valkey",
    "valkeys": "write rediss:// also for Valkey",
    "redis+ssl": "write rediss://",
    "redis+tls": "write rediss://",
}
_CERTIFICATES = {
    name: mode
    for mode, names in {
        ssl.CERT_REQUIRED: ("required", "cert_required"),
        ssl.CERT_OPTIONAL: ("optional", "cert_optional"),
        ssl.CERT_NONE: ("none", "cert_none"),
    }.items()
    for name in names
}
_YES_NO = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
_TLS_VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "771": ssl.TLSVersion.TLSv1_2} | {
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
    "772": ssl.TLSVersion.TLSv1_3,
}
_TLS: dict[str, tuple[Callable[[str], object | None], str]] = {
    "ssl_cert_reqs": (lambda v: _CERTIFICATES.get(v.lower()), "required, optional or none"),
    "ssl_check_hostname": (lambda v: _YES_NO.get(v.lower()), "true or false"),
    "ssl_min_version": (lambda v: _TLS_VERSIONS.get(v.lower()), "TLSv1.2 or TLSv1.3"),
    **{
        name: (lambda v: v or None, "a value")
        for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_ciphers")
    },
}
_IDENTITY = ("db", "virtual_host", "username", "password", "client_name", "protocol")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and who connects. `tls`: redis-py's options of that name; None: without TLS.

    `protocol`: 2 for that version of RESP; None: redis-py's default, which is 3.
    """

    host: str
    port: int
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: Mapping[str, object] | None
    client_name: str | None
    protocol: int | None

    @property
    def url(self) -> str:
        """The address without options, which kombu and redis-py read alike. It contains a secret."""
        user, password = quote(self.username or "", safe=""), quote(self.password or "", safe="")
        login = f"{user}:{password}@" if password else f"{user}@" if user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'redis' if self.tls is None else 'rediss'}://{login}{host}:{self.port}/{self.database}"

    @property
    def options(self) -> dict[str, Any]:
        """What redis-py takes beside `url`."""
        named = {"client_name": self.client_name, "protocol": self.protocol}
        return {name: value for name, value in named.items() if value is not None} | dict(self.tls or {})


def parse(address: str) -> BrokerAddress:
    """Parse the address of a broker.

    Raises:
        AddressError
    """
    parts = split(address, expected=EXPECTED)
    if parts.scheme in _SCHEMES:
        raise AddressError(_SCHEMES[parts.scheme])
    if parts.scheme not in ("redis", "rediss"):
        raise AddressError(f"expected {EXPECTED}")
    if len(parts.hosts) > 1:
        raise AddressError(f"it names several hosts, and one is supported. {ENCODE}")
    host, port = parts.hosts[0] if parts.hosts else ("", None)
    if not host:
        raise AddressError(f"it names no host. {ENCODE}")
    if host.startswith("/"):
        raise AddressError(_SOCKET)
    options = _checked(parts)
    username, password = _login(parts, options)
    return BrokerAddress(
        host=host,
        port=port or 6379,
        database=_database(parts.path, options),
        username=username,
        password=password,
        tls=_tls(parts.scheme, options),
        client_name=_client_name(options.get("client_name")),
        protocol=_protocol(options.get("protocol")),
    )


def _checked(parts: Parts) -> dict[str, str]:
    """Return the options, each of which is known and stands there once."""
    for name, values in parts.options.items():
        if name not in _IDENTITY and name not in _TLS:
            known = ", ".join((*_IDENTITY, *_TLS))
            raise AddressError(f"its option {name[:64]!r} is not supported. Remove it. Supported are {known}")
        if len(values) > 1:
            raise AddressError(f"its option {name!r} stands there more than once")
    return {name: values[0] for name, values in parts.options.items()}


def _login(parts: Parts, options: Mapping[str, str]) -> tuple[str | None, str | None]:
    before_host = {"username": parts.username, "password": parts.password}
    for name, value in before_host.items():
        if value and name in options:
            raise AddressError(f"its option {name!r} stands there in addition to the one before '@'")
    return parts.username or options.get("username") or None, parts.password or options.get("password") or None


def _database(path: str, options: Mapping[str, str]) -> int:
    numbers = {text.strip("/") for text in (path, options.get("db", ""), options.get("virtual_host", ""))} - {""}
    if len(numbers) > 1:
        raise AddressError("it names two databases: one after the '/', and another one as an option")
    number = numbers.pop() if numbers else "0"
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        raise AddressError(f"its database is not a number: expected {EXPECTED}. {ENCODE}")
    return int(number)


def _tls(scheme: str, options: Mapping[str, str]) -> dict[str, object] | None:
    named = [name for name in options if name in _TLS]
    if scheme == "redis":
        if named:
            raise AddressError(f"its option {named[0]!r} needs TLS: write rediss://")
        return None
    # Celery's default accepts any certificate. ?ssl_ca_certs=FILE names a private authority.
    tls: dict[str, object] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    for name in named:
        read, expected = _TLS[name]
        tls[name] = read(options[name])
        if tls[name] is None:
            raise AddressError(f"its option {name!r} cannot be read: expected {expected}")
    return tls


def _client_name(name: str | None) -> str | None:
    if name is not None and not (name.isascii() and name.isprintable() and name and " " not in name):
        raise AddressError("its option 'client_name' cannot be read: expected ASCII without blanks")
    return name


def _protocol(version: str | None) -> int | None:
    if version not in (None, "2", "3"):
        raise AddressError("its option 'protocol' cannot be read: expected 2 or 3")
    return 2 if version == "2" else None  # 3 is redis-py's default; named, it changes the shapes of answers
