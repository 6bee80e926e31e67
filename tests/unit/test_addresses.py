"""Addresses of the broker and of the database: what is used, what is refused, and that nothing secret is said."""

import ssl
from urllib.parse import quote

import pytest

from worker.addresses import AddressError, broker, database
from worker.addresses.database import PostgresAddress, SqliteAddress

PASSWORD = "p@ss:w/o%rd#;,+&=?é hunter2"
ENCODED = quote(PASSWORD, safe="")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://h:1/", "redis://h:1/0"),
        ("redis://h/7", "redis://h:6379/7"),
        ("redis://h?db=7", "redis://h:6379/7"),
        ("redis://h/7?virtual_host=7", "redis://h:6379/7"),
        (" REDIS://H:1/2\n", "redis://H:1/2"),
        ("redis://[::1]:1/0", "redis://[::1]:1/0"),
        ("redis://user@h", "redis://user@h:6379/0"),
        ("redis://h?username=user&password=p%3Bw", "redis://user:p%3Bw@h:6379/0"),
        (f"redis://user:{ENCODED}@h:1/0", f"redis://user:{ENCODED}@h:1/0"),
        ("redis://:raw;,+&=@é:w@h:1/0", f"redis://:{quote('raw;,+&=@é:w', safe='')}@h:1/0"),
        ("redis://:%zz@h", "redis://:%25zz@h:6379/0"),
        ("rediss://h", "rediss://h:6379/0"),
    ],
)
def test_what_a_broker_address_names(address: str, url: str) -> None:
    """kombu and redis-py read what is left alike: an encoded login, a host, a port and a number."""
    assert broker.parse(address).url == url


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": ssl.CERT_NONE}),
        ("?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
        ("?ssl_cert_reqs=Required", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        (
            "?ssl_ca_certs=/a%20b.pem&ssl_check_hostname=false&ssl_min_version=TLSv1.3",
            {
                "ssl_cert_reqs": ssl.CERT_REQUIRED,
                "ssl_ca_certs": "/a b.pem",
                "ssl_check_hostname": False,
                "ssl_min_version": ssl.TLSVersion.TLSv1_3,
            },
        ),
        (
            "?client_name=shop&protocol=2",
            {"client_name": "shop", "protocol": 2, "ssl_cert_reqs": ssl.CERT_REQUIRED},
        ),
        ("?protocol=3", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
    ],
)
def test_options_of_a_broker_address(options: str, expected: dict[str, object]) -> None:
    """In the spelling of redis-py and in that of Celery. Certificates are checked unless the address says otherwise."""
    assert broker.parse(f"rediss://h{options}").options == expected


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("h:6379/0", "expected redis://"),
        ("amqp://hunter2@h", "expected redis://"),
        ("sentinel://:hunter2@h:26379", "Sentinel is not supported"),
        ("redis+cluster://:hunter2@h", "Cluster is not supported"),
        ("unix:///hunter2.sock", "Unix sockets are not supported"),
        ("redis+socket:///hunter2.sock", "Unix sockets are not supported"),
        ("redis://%2Fhunter2.sock", "Unix sockets are not supported"),
        ("valkey://h", "write redis:// also for Valkey"),
        ("redis://", "names no host"),
        ("redis://:hunter2@/0", "names no host"),
        ("redis://:hunter2@:6379/0", "names no host"),
        ("redis://a:1,b:2/0", "several hosts"),
        ("redis://:hunter2@a;redis://:hunter2@b", "cannot be split"),
        ("redis://::1:6379", "in brackets"),
        ("redis://[hunter2]", "no IPv6 address"),
        ("redis://[::1/0", "in brackets"),
        ("redis://:hunter2@h..x", "cannot be the name of a host"),
        ("redis://h:hunter2", "port is not a number"),
        ("redis://h:0", "port is not a number"),
        ("redis://h:65536", "port is not a number"),
        ("redis://h/hunter2", "database is not a number"),
        ("redis://h/-1", "database is not a number"),
        ("redis://h/1?db=2", "two databases"),
        (f"redis://:{PASSWORD}@h:1/0", "cannot be split"),
        ("redis://:hun/ter2@h:1/0", "cannot be split"),
        ("redis://:1/hunter2@h:1/0", "cannot be split"),
        ("redis://:a@b?hunter2=1@h:1/0", "cannot be split"),
        ("redis://:hunter2#@h", "cannot be split"),
        ("redis://:hun\nter2@h", "control character"),
        ("redis://:hunter2%00@h", "control character"),
        ("redis://:hunter2%ff@h", "not UTF-8"),
        ("redis://h?ssl_ca_certs=x", "'ssl_ca_certs' needs TLS"),
        ("rediss://h?ssl_cert_reqs=hunter2", "expected required, optional or none"),
        ("rediss://h?ssl_ca_certs=", "'ssl_ca_certs' cannot be read"),
        ("redis://h?protocol=4", "expected 2 or 3"),
        ("redis://h?client_name=a%20b", "'client_name' cannot be read"),
        ("redis://:hunter2@h?password=hunter2", "'password' stands there in addition"),
        ("redis://h?db=1&db=2", "more than once"),
        *(
            (f"redis://h?{name}=1", f"option '{name}' is not supported")
            for name in ("socket_timeout", "health_check_interval", "max_connections", "retry_on_timeout", "timeout")
        ),
        ("redis://h?decode_responses=true", "'decode_responses' is not supported"),
        ("rediss://h?ssl_password=hunter2", "'ssl_password' is not supported"),
    ],
)
def test_a_broker_address_that_is_refused(address: str, reason: str) -> None:
    """The sentence names the scheme or the option, and no other part of the address."""
    with pytest.raises(AddressError) as raised:
        broker.parse(address)

    assert reason in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "parameters"),
    [
        ("postgres://u:p@h/d", {"user": "u", "password": "p", "host": "h", "dbname": "d"}),
        (" POSTGRESQL+psycopg://h:5/d\n", {"host": "h", "port": "5", "dbname": "d"}),
        (f"postgresql://u:{ENCODED}@h/d", {"user": "u", "password": PASSWORD, "host": "h", "dbname": "d"}),
        ("postgresql://[::1]:5/d", {"host": "::1", "port": "5", "dbname": "d"}),
        ("postgresql://u@/d?host=/tmp/x", {"user": "u", "host": "/tmp/x", "dbname": "d"}),
        ("postgresql://%2Ftmp/d", {"host": "/tmp", "dbname": "d"}),
        ("postgresql://a:1,b/d", {"host": "a,b", "port": "1,", "dbname": "d"}),
        ("postgresql:///d?host=a:1&host=b:2", {"host": "a,b", "port": "1,2", "dbname": "d"}),
        ("postgresql://h", {"host": "h"}),
        (
            "postgresql://h/d?sslmode=require&options=-c%20x%3Dy&connect_timeout=7&target_session_attrs=primary",
            {
                "host": "h",
                "dbname": "d",
                "sslmode": "require",
                "options": "-c x=y",
                "connect_timeout": "7",
                "target_session_attrs": "primary",
            },
        ),
    ],
)
def test_what_a_postgres_address_names(address: str, parameters: dict[str, str]) -> None:
    """In libpq's words. The password does not show."""
    read = database.parse(address)

    assert read == PostgresAddress(parameters, pooled=False)
    assert PASSWORD not in f"{read} {read!r}"
    assert database.parse(f"postgresql://h/d{'?'}pooler=transaction") == PostgresAddress(
        {"host": "h", "dbname": "d"}, pooled=True
    )


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("sqlite:///a.db", "a.db"),
        ("SQLITE:////tmp/a.db\n", "/tmp/a.db"),
        ("sqlite+pysqlite:///a%3Fb%20c.db", "a?b c.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        (database.sqlite_url("/tmp/what?/a%20b/é #1.db"), "/tmp/what?/a%20b/é #1.db"),
    ],
)
def test_what_an_sqlite_address_names(address: str, file: str | None) -> None:
    """A file of any name, or none: then it is in memory."""
    assert database.parse(address) == SqliteAddress(file)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "expected postgresql://"),
        ("sqlite", "expected postgresql://"),
        ("mysql://u:hunter2@h/d", "expected postgresql://"),
        ("postgresql+asyncpg://u:hunter2@h/d", "without a driver"),
        ("postgresql+psycopg2://u:hunter2@h/d", "without a driver"),
        ("sqlite+aiosqlite:///hunter2", "without a driver"),
        ("sqlite://hunter2", "three slashes"),
        ("sqlite:///hunter2?mode=ro", "'mode' is not supported"),
        ("sqlite:///file:hunter2", "'file:'"),
        ("postgresql://h:hunter2/d", "port is not a number"),
        (f"postgresql://u:{PASSWORD}@h/d", "cannot be split"),
        ("postgresql://u:hunter2@h/d?schema=x", "'schema' is not supported"),
        ("postgresql://u:hunter2@h/d?prepare_threshold=0", "pooler=transaction"),
        ("postgresql://u:hunter2@h/d?client_encoding=latin1", "always UTF-8"),
        ("postgresql://u:hunter2@h/d?pool_size=5", "'pool_size' is not supported"),
        ("postgresql://u:hunter2@h/d?pooler=session", "expected 'transaction'"),
        ("postgresql://u:hunter2@h/d?sslmode=hunter2", "expected disable"),
        ("postgresql://u:hunter2@h/d?target_session_attrs=any", "expected read-write, primary"),
        ("postgresql://u:hunter2@h/d?connect_timeout=hunter2", "is not a number"),
        ("postgresql://u:hunter2@h/d?port=5", "both before the path and as options"),
        ("postgresql://u:hunter2@h/d?user=w", "'user' stands there in addition"),
    ],
)
def test_a_database_address_that_is_refused(address: str, reason: str) -> None:
    """The sentence names the option, and no other part of the address."""
    with pytest.raises(AddressError) as raised:
        database.parse(address)

    assert reason in str(raised.value)
    assert "hunter2" not in str(raised.value)
