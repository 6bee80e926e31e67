"""The broker: whether it answers, keeps what it was given, and can be written."""

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from worker.cli.checks import endpoints
from worker.cli.checks.finding import Finding, Installation, failed, ok, skipped, warning
from worker.events.broker_probe import OLDEST, Broker, Trouble, examine

NAMES = ("TEAM_SESSIONS_REDIS_URL", "REDIS_URL")
FILLED = 0.9

# What each trouble is called, and what to do about it.
TROUBLES = {
    Trouble.REFUSED: (
        "Nobody listens at its address.",
        "Start it, or correct host and port of TEAM_SESSIONS_REDIS_URL. Accepted runs are kept meanwhile, and wait.",
    ),
    Trouble.UNKNOWN_HOST: (
        "The host of its address is not known here.",
        "Correct the host of TEAM_SESSIONS_REDIS_URL, or mend the name resolution of this machine.",
    ),
    Trouble.PASSWORD: (
        "It refuses our password, or wants one.",
        "Correct TEAM_SESSIONS_REDIS_URL: redis://[USER]:PASSWORD@HOST:PORT/NUMBER, special characters as %XX.",
    ),
    Trouble.TIMEOUT: (
        "It does not answer: it is frozen, paused or overloaded, or something on the way drops packets.",
        "See whether its process runs and what it does: redis-cli --latency, SLOWLOG GET.",
    ),
    Trouble.TLS: (
        "No encrypted connection came about.",
        "Write rediss:// where it speaks TLS, and name a private authority: ?ssl_ca_certs=FILE.",
    ),
    Trouble.LOADING: ("It is still loading its data.", "Wait. Accepted runs are kept meanwhile."),
    Trouble.READ_ONLY: (
        "It is a read-only replica.",
        "Name the primary in TEAM_SESSIONS_REDIS_URL; after a failover, the new one.",
    ),
    Trouble.CANNOT_SAVE: (
        "It cannot save to its disk (MISCONF), and takes no writes until it can.",
        "Make room on its disk and look into its log; or CONFIG SET save '': nothing of ours needs its persistence.",
    ),
    Trouble.NO_MEMORY: (
        "Its memory is full: it takes no writes.",
        "Raise its maxmemory, or lower TEAM_SESSIONS_STREAM_SECONDS.",
    ),
    Trouble.FORBIDDEN: (
        "Its user may not do what we do.",
        "Grant it (ACL SETUSER) all commands but the dangerous ones on its keys, INFO among them.",
    ),
    Trouble.OTHER: ("It answers with an error that has no name here.", "See the log of the server."),
}


def look(installation: Installation) -> Iterator[Finding]:
    """Everything about it."""
    if mistaken := installation.mistaken(*NAMES):
        yield mistaken
    elif installation.settings.redis_url is None:
        yield _embedded(installation)
    else:
        url = installation.settings.redis_url.get_secret_value()
        found = examine(url, prefix=installation.settings.queue_prefix)
        if isinstance(found, Trouble):
            yield _told(found)
        else:
            troubles = [*_write(found), *_version(found), *_eviction(found), *_memory(found), *_open(url)]
            yield from troubles or [ok(f"{found.name} {found.version}, evicts nothing, takes writes.")]


def _embedded(installation: Installation) -> Finding:
    """The broker that `up` started: nobody but its children knows where it is, so the API is asked."""
    readiness = endpoints.readiness(installation)
    if readiness is None:
        detail = "No broker is set, and no 'team-sessions up' that brings one answers here."
        return failed("broker_missing", detail, "Start 'team-sessions up', or set TEAM_SESSIONS_REDIS_URL.")
    if readiness == "no broker":
        return failed(
            "broker_refused", "The broker that 'up' started does not answer.", "See what 'up' prints about it."
        )
    if readiness in ("no database", "no schema"):
        return skipped("It is the one of 'up', which tells of it once the database answers.")
    return ok("The one of 'up' answers.")


def _told(trouble: Trouble) -> Finding:
    return failed(f"broker_{trouble}", *TROUBLES[trouble])


def _write(broker: Broker) -> Iterator[Finding]:
    if broker.write is not None:
        yield _told(broker.write)


def _version(broker: Broker) -> Iterator[Finding]:
    if broker.too_old:
        oldest = ".".join(map(str, OLDEST))
        yield failed(
            "broker_too_old", f"It is {broker.name} {broker.version}; expected {oldest} or newer.", "Upgrade it."
        )


def _eviction(broker: Broker) -> Iterator[Finding]:
    advice = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file, so that it stays so."
    if broker.policy is None:
        yield warning("broker_policy_unknown", "It does not tell what it does when its memory is full.", advice)
    elif broker.policy.startswith("allkeys"):
        detail = f"Its maxmemory-policy is {broker.policy!r}: when its memory is full it throws queued deliveries away."
        yield failed("broker_evicts", detail, advice)
    elif broker.policy != "noeviction":
        detail = f"Its maxmemory-policy is {broker.policy!r}: when its memory is full it cuts the streams of runs."
        yield warning("broker_evicts_streams", detail, advice)


def _memory(broker: Broker) -> Iterator[Finding]:
    if broker.filled is not None and broker.filled >= FILLED and broker.write is None:
        detail = f"{broker.filled:.0%} of its memory is used."
        yield warning("broker_nearly_full", detail, TROUBLES[Trouble.NO_MEMORY][1])


def _open(url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.password or _is_here(parts.hostname or ""):
        return
    detail = "It takes connections from other machines without a password."
    yield warning("broker_open", detail, "Set requirepass or a user on it, and put them into TEAM_SESSIONS_REDIS_URL.")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")
