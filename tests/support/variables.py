"""Variables of the environment that are not ours: all that the installed packages may read, with odd values."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import cycle, islice
from pathlib import Path

from flower.options import options
from psycopg.pq import Conninfo

READS = re.compile(r"environ|getenv|envvar")
LITERAL = re.compile(r"""["']([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)["']""")
NAME = re.compile(r"\b(OTEL_[A-Z_]+)\b")
EXTRAS = {"celery": "redis", "psycopg": "binary", "uvicorn": "standard"}
VALUES = ("odd", "-1", "tcp://10.0.0.5:9101", "1", "/nowhere", "true", "amqp://guest@127.0.0.1:1//", "shop.settings")
# Read by C libraries, by Python, or under names that are put together.
OTHERS = """
    HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy FTP_PROXY ftp_proxy WS_PROXY WSS_PROXY
    NO_PROXY no_proxy PGTZ PGDATESTYLE PGGEQO PGSERVICE PGSERVICEFILE PGSYSCONFDIR PGLOCALEDIR PGREQUIRESSL
    PGPASSFILE SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE NETRC HOSTALIASES
    LOCALDOMAIN RES_OPTIONS NLSPATH LANGUAGE MALLOC_ARENA_MAX MALLOC_TRIM_THRESHOLD_ TZ TZDIR COLUMNS LINES
    NO_COLOR FORCE_COLOR CLICOLOR PAGER LESS EDITOR VISUAL BROWSER TERM COLORTERM CI DEBUG PORT HOST LOG_LEVEL
    ENV USER LOGNAME HOSTNAME MAIL UVICORN_HOST UVICORN_PORT UVICORN_WORKERS UVICORN_RELOAD UVICORN_APP
    UVICORN_LOG_LEVEL WEB_CONCURRENCY GUNICORN_CMD_ARGS SQLALCHEMY_DATABASE_URI SQLALCHEMY_WARN_20
    SQLALCHEMY_SILENCE_UBER_WARNING LOGURU_LEVEL LOGURU_AUTOINIT OPENAI_ORGANIZATION OPENAI_API_BASE
    AZURE_OPENAI_API_KEY ANTHROPIC_API_KEY REDIS_HOST REDIS_PORT REDIS_PASSWORD AMQP_URL BROKER_URL
    RESULT_BACKEND DJANGO_SETTINGS_MODULE CELERY_APP CELERY_RESULT_BACKEND CELERYD_CONCURRENCY GITHUB_ACTIONS
    KUBERNETES_SERVICE_HOST KUBERNETES_PORT
"""
SERVICES = ("TEAM_SESSIONS", "TEAM_SESSIONS_METRICS", "TEAM_SESSIONS_TEAMS", "FLOWER", "REDIS", "CELERY", "OTEL")
OF_SERVICE = {
    "SERVICE_HOST": "10.0.0.5",
    "SERVICE_PORT": "9101",
    "SERVICE_PORT_HTTP": "9101",
    "PORT": "tcp://10.0.0.5:9101",
    "PORT_9101_TCP": "tcp://10.0.0.5:9101",
    "PORT_9101_TCP_PROTO": "tcp",
    "PORT_9101_TCP_PORT": "9101",
    "PORT_9101_TCP_ADDR": "10.0.0.5",
}
# What makes a process: where its programs, files and packages are. And what is ours.
NOT_FOREIGN = re.compile(
    r"PATH|HOME|PWD|TMPDIR|TEMP|LANG|LC_\w+|LD_\w+|PYTHON\w+|TEAM_SESSIONS\w*|_TEAM_SESSIONS\w*|COMP_\w+"
)
OURS = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "DATABASE_URL", "REDIS_URL"}


def foreign(*, shift: int = 0) -> dict[str, str]:
    """Return the variables; each *shift* gives other odd values."""
    names = {*_in_packages(), *OTHERS.split(), *(f"FLOWER_{name.upper().replace('-', '_')}" for name in options)}
    names |= {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    names = {name for name in names if name not in OURS and not NOT_FOREIGN.fullmatch(name)}
    values = islice(cycle(VALUES), shift, None)
    services = {f"{service}_{name}": value for service in SERVICES for name, value in OF_SERVICE.items()}
    return dict(zip(sorted(names), values, strict=False)) | services


def _in_packages() -> Iterator[str]:
    """Yield what looks like a variable in each file, of a package that we install, that reads any."""
    for name in _distributions():
        for file in distribution(name).files or ():
            path = Path(str(file.locate()))
            if path.suffix != ".py" or "test" in str(file) or not path.exists():
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            if READS.search(text):
                yield from LITERAL.findall(text)
                yield from NAME.findall(text)


def _distributions() -> set[str]:
    """Return the packages that ours needs, with those of the extra `otel`."""
    found: set[str] = set()
    waiting = ["team-sessions", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"]
    while waiting:
        name = re.split(r"[^\w.-]", waiting.pop(), maxsplit=1)[0].lower()
        if name in found:
            continue
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:  # only for another system, or for an extra
            continue
        found.add(name)
        extra = f"extra == '{EXTRAS.get(name)}'"
        waiting += [r for r in requirements if "extra ==" not in r or extra in r.replace('"', "'")]

    return found - {"team-sessions"}
