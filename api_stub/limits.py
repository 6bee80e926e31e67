"""How many connections and streams an API process can have, by the file handles that it may open."""

import resource
from dataclasses import dataclass

from worker.observe import logs
from worker.settings import Settings

MOST_FILES = 65_536
OWN_FILES = 192  # for the databases, the broker, logs and what the interpreter opens
MOST_CONNECTIONS = 4_000  # whatever the number of files: an open stream takes about 80 KB of memory
LEAST = 8

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one process. A quarter of the connections is left to requests that are answered at once."""

    connections: int
    streams: int
    streams_of_key: int


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit. The usual soft limit of 1,024 is small for an API."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (OSError, ValueError) as error:
            log.warning("the limit of open files stays as it is", limit=soft, error=error)


def limits_of(settings: Settings) -> Limits:
    """Return the limits for the files that this process may open now."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if soft == resource.RLIM_INFINITY else soft
    most = max(MOST_CONNECTIONS, (settings.max_streams or 0) * 4 // 3)
    connections = max(2 * LEAST, min(files - OWN_FILES, most))
    streams = min(settings.max_streams or connections * 3 // 4, connections - LEAST)
    return Limits(connections, streams, min(settings.max_streams_per_key or max(1, streams // 2), streams))
