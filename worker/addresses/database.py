"""The address of the database: `postgresql://USER:PASSWORD@HOST[:PORT]/NAME` or `sqlite:///FILE`.

The options of a Postgres address are those of libpq, and one of our own: `pooler=transaction`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from urllib.parse import quote

from worker.addresses import AddressError
from worker.addresses.parts import Parts, decode, port_number, split

POSTGRES = "postgresql://USER:PASSWORD@HOST[:PORT]/NAME"
SQLITE = "sqlite:///FILE"
EXPECTED = f"{POSTGRES} or {SQLITE}"

_DRIVER = f"its driver is not used here. Write {POSTGRES}, without a driver"
_SQLITE_DRIVER = f"its driver is not used here. Write {SQLITE}, without a driver"
_POSTGRES = ("postgres", "postgresql", "postgres+psycopg", "postgresql+psycopg")
_SQLITE = ("sqlite", "sqlite+pysqlite")
_TARGETS = ("read-write", "primary")
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_LIBPQ = re.compile(
    "application_name|channel_binding|connect_timeout|dbname|fallback_application_name|gssdelegation|gssencmode|gsslib|"
    "host|hostaddr|keepalives(_count|_idle|_interval)?|krbsrvname|load_balance_hosts|(min|max)_protocol_version|"
    "options|passfile|password|port|require_auth|requirepeer|scram_(client|server)_key|service|servicefile|"
    "ssl_(min|max)_protocol_version|ssl(cert|certmode|compression|crl|crldir|key|mode|negotiation|password|rootcert|sni)|"
    "target_session_attrs|tcp_user_timeout|user"
)
_NUMBERS = re.compile("connect_timeout|keepalives(_count|_idle|_interval)?|tcp_user_timeout")
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "sslcertmode": ("disable", "allow", "require"),
    "sslnegotiation": ("postgres", "direct"),
    "load_balance_hosts": ("disable", "random"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "target_session_attrs": _TARGETS,
}
# Options of other drivers and libraries, and what to do instead.
_FOREIGN = {
    "client_encoding": "it is always UTF-8",
    "prepare_threshold": "write pooler=transaction behind PgBouncer, and nothing without it",
    **dict.fromkeys(("schema", "currentSchema", "search_path"), "the tables are always in the schema 'team_sessions'"),
    **dict.fromkeys(("ssl", "requiressl", "sslaccept"), "write sslmode=…"),
    **dict.fromkeys(("pgbouncer", "statement_cache_size", "prepared_statement_cache_size"), "write pooler=transaction"),
}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A Postgres database. `parameters`: what libpq takes, as text. `pooled`: through a pooler of transactions."""

    parameters: Mapping[str, str] = field(repr=False)  # with the password
    pooled: bool

    def __str__(self) -> str:
        """The address without a secret."""
        part = self.parameters.get
        return f"postgresql://{part('user', '')}:***@{part('host', '')}/{part('dbname', '')}"


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    """An SQLite file, absolute or relative to the working directory; None: in the memory of the process."""

    file: str | None

    def __str__(self) -> str:
        """The address."""
        return sqlite_url(self.file or "")


def parse(address: str) -> PostgresAddress | SqliteAddress:
    """Parse the address of a database.

    Raises:
        AddressError
    """
    scheme, separator, rest = address.strip().partition("://")
    scheme = scheme.lower()
    if scheme in _SQLITE and separator:
        return _sqlite(rest)
    if scheme.startswith("sqlite+"):
        raise AddressError(_SQLITE_DRIVER)
    if scheme in _POSTGRES:
        return _postgres(split(address, expected=EXPECTED))
    raise AddressError(_DRIVER if scheme.startswith(("postgres+", "postgresql+")) else f"expected {EXPECTED}")


def sqlite_url(file: str | PathLike[str]) -> str:
    """Return the address of an SQLite file with any name."""
    return f"sqlite:///{quote(fspath(file))}"


def _sqlite(rest: str) -> SqliteAddress:
    if rest and not rest.startswith("/"):
        raise AddressError("expected three slashes and a relative path (sqlite:///FILE), or four and an absolute one")
    path, question, options = rest[1:].partition("?")
    if question:
        named = [option.partition("=")[0] for option in options.split("&")]
        raise AddressError(
            f"its option {named[0][:64]!r} is not supported: SQLite has none here. Write '?' in a file's name as %3F"
        )
    file = decode(path, controls=True)  # the name of a directory can hold a line end
    if file.lower().startswith("file:"):
        raise AddressError("SQLite's 'file:' addresses are not supported: write sqlite:///FILE")
    return SqliteAddress(None if file in ("", ":memory:") else file)


def _postgres(parts: Parts) -> PostgresAddress:
    options = {name: _value(name, values) for name, values in parts.options.items()}
    pooler = options.pop("pooler", None)
    if pooler not in (None, "transaction"):
        raise AddressError("its option 'pooler' cannot be read: expected 'transaction', or leave it out")
    before_host = {"user": parts.username, "password": parts.password, "dbname": parts.path.lstrip("/") or None}
    for name, value in before_host.items():
        if value is not None and name in options:
            raise AddressError(f"its option {name!r} stands there in addition to the one in the address")
    parameters = {name: value for name, value in {**before_host, **options}.items() if value is not None}
    parameters |= _servers(parts, parameters)
    return PostgresAddress(parameters, pooled=pooler is not None)


def _servers(parts: Parts, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's lists of hosts and ports, from before the path, or from options as SQLAlchemy writes them."""
    named = any(host for host, _ in parts.hosts)
    if named and ("host" in parameters or "port" in parameters):
        raise AddressError("it names hosts or ports both before the path and as options")
    if named:
        hosts = parts.hosts
    elif "host" in parameters:
        hosts = tuple(_host_and_port(host) for host in parameters["host"].split(","))
    else:
        port = next((port for _, port in parts.hosts), None)
        return {"port": str(port)} if port else {}
    servers = {"host": ",".join(host for host, _ in hosts)}
    ports = [str(port or "") for _, port in hosts]
    return servers | ({"port": ",".join(ports)} if any(ports) else {})


def _host_and_port(text: str) -> tuple[str, int | None]:
    host, _, port = text.rpartition(":")
    if host and ":" not in host and not text.startswith("/"):
        return host, port_number(port)
    return text, None


def _value(name: str, values: tuple[str, ...]) -> str:
    """Return the value of an option that is known and can be read."""
    if name != "pooler" and (name in _FOREIGN or not _LIBPQ.fullmatch(name)):
        advice = _FOREIGN.get(name, "supported are those of libpq, and pooler=transaction")
        raise AddressError(f"its option {name[:64]!r} is not supported: {advice}")
    value = ",".join(values)
    if len(values) > 1 and name not in ("host", "hostaddr", "port"):
        raise AddressError(f"its option {name!r} stands there more than once")
    if _NUMBERS.fullmatch(name) and not (value.isascii() and value.isdigit()):
        raise AddressError(f"its option {name!r} is not a number")
    if name == "port":
        for port in value.split(","):
            port_number(port)
    if name in _CHOICES and value not in _CHOICES[name]:
        raise AddressError(f"its option {name!r} cannot be read: expected {', '.join(_CHOICES[name])}")
    return value
