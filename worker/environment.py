"""What surrounds a process: which variables of its environment are ours, and what is installed beside it."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

PREFIX = "TEAM_SESSIONS_"

# Kubernetes sets these for each Service of the namespace, and the name of a Service can begin like ours:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE = re.compile(r"(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


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
