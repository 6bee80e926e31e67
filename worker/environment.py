"""What surrounds a process: which variables of its environment are ours, and what is installed beside it."""

import re
from collections.abc import Mapping, MutableMapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from urllib.parse import urlsplit

PREFIX = "TEAM_SESSIONS_"

# Switches of the libraries that we use, which read them when they are imported, or read them inside C. No argument can
# overrule them: odd values end a process, others change every connection. Commands start without them. Of what a tool
# of yours could read itself, such as CELERY_BROKER_URL or PGHOST, none is here.
_SWITCHES = re.compile(
    # celery, billiard and kombu
    r"C_[A-Z_]+|CELERY_(BENCH|BENCH_EVERY|TRACE_APP|LOADER|CUSTOM_WORKER_POOL|WORKER_\w+)|AUTOSCALE_KEEPALIVE|REMAP_SIGTERM"
    r"|FORKED_BY_MULTIPROCESSING|MP_LOG|MP_MAIN_FILE|NOSETPS|TIMER_DEBUG|USE_FAST_LOCALS|EVENTLET_NOBLOCK"
    r"|KOMBU_\w+|PICKLE_PROTOCOL|DISABLE_TRACEBACKS"
    # psycopg and libpq
    r"|PSYCOPG_\w+|PGSERVICE|PGSERVICEFILE|PGTZ|PGDATESTYLE|PGGEQO"
    # others. The last one makes a program write the keys of its TLS connections to a file.
    r"|PROMETHEUS_\w+|prometheus_multiproc_dir|FLOWER_UNAUTHENTICATED_API|SSLKEYLOGFILE"
)

# These name plug-ins, which tools of yours may use. OpenTelemetry's API fails if one of them is not installed.
_PLUGINS = {"OTEL_PROPAGATORS": "opentelemetry_propagator", "OTEL_PYTHON_CONTEXT": "opentelemetry_context"}

# Kubernetes sets these for each Service of the namespace, and the name of a Service can begin like ours:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE = re.compile(r"(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def drop_switches(environment: MutableMapping[str, str]) -> None:
    """Remove the switches of libraries. Call it before any of them is imported."""
    for name in [name for name in environment if _SWITCHES.fullmatch(name)]:
        del environment[name]
    for name in _PLUGINS.keys() & environment.keys():
        named = {plugin.strip() for plugin in environment[name].split(",")}
        if not named <= {plugin.name for plugin in entry_points(group=_PLUGINS[name])}:
            del environment[name]


def own_names(environment: Mapping[str, str]) -> list[str]:
    """Return the TEAM_SESSIONS_* names, in order, except those with which Kubernetes describes a Service."""
    return sorted(n for n, v in environment.items() if n.startswith(PREFIX) and not is_of_kubernetes(n, v))


def is_of_kubernetes(name: str, value: object) -> bool:
    """Return whether a variable describes a Service."""
    if name.endswith("_PORT") and isinstance(value, str) and _SERVICE_ADDRESS.match(value):
        return True
    return _SERVICE.search(name) is not None


def is_http(url: str) -> bool:
    """Return whether *url* is the address of an HTTP server."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its port is not a number
        return False


def can_trace() -> bool:
    """Return whether the packages that send traces are installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp") is not None
    except ModuleNotFoundError:  # its parent package is missing, too
        return False
