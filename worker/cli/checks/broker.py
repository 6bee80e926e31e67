"""The broker: whether it answers, keeps what it accepts, and can be written."""

from collections.abc import Iterator

from worker.addresses.broker import parse
from worker.cli.checks import endpoints
from worker.cli.checks.finding import CLIENT, Finding, Installation, failed, has, ok, skipped, warning
from worker.domain import Problem
from worker.events.broker_probe import NO_MEMORY, Broker, probe

NAMES = ("TEAM_SESSIONS_REDIS_URL", "REDIS_URL")
NEARLY_FULL = 0.9


def check(installation: Installation) -> Iterator[Finding]:
    """Check the broker that is set, or the one of `up`."""
    if mistaken := installation.mistaken(*NAMES):
        yield mistaken
    elif installation.is_client:
        yield CLIENT
    elif installation.settings.redis_url is None:
        yield _embedded(installation)
    else:
        url = installation.settings.redis_url.get_secret_value()
        result = probe(url, prefix=installation.settings.queue_prefix)
        if isinstance(result, Problem):
            yield has(result)
        else:
            yield from list(_problems(result, url)) or [
                ok(f"{result.name} {result.version}, evicts nothing, does all that workers need.")
            ]


def _embedded(installation: Installation) -> Finding:
    """Ask the API about the broker that `up` started: only the children of `up` know its address."""
    readiness = endpoints.readiness(installation)
    if readiness is None:
        detail = "No broker is set, and no 'team-sessions up', which starts one, answers here."
        return failed("broker_missing", detail, "Start 'team-sessions up', or set TEAM_SESSIONS_REDIS_URL.")
    if readiness == "no broker":
        return failed("broker_refused", "The broker that 'up' started does not answer.", "See the output of 'up'.")
    if readiness in ("no database", "no schema"):
        return skipped("The API of 'up' reports on the broker only while the database answers.")
    return ok("The broker that 'up' started answers.")


def _problems(broker: Broker, url: str) -> Iterator[Finding]:
    advice = "CONFIG SET maxmemory-policy noeviction, and set the same in its configuration file."
    if broker.policy is None:
        yield warning("broker_policy_unknown", "It does not say what it does when its memory is full.", advice)
    elif broker.policy.startswith("allkeys"):
        detail = f"Its maxmemory-policy is {broker.policy!r}: when its memory is full, it drops queued deliveries."
        yield failed("broker_evicts", detail, advice)
    elif broker.policy != "noeviction":
        detail = f"Its maxmemory-policy is {broker.policy!r}: when its memory is full, it drops the streams of runs."
        yield warning("broker_evicts_streams", detail, advice)
    if broker.filled is not None and broker.filled >= NEARLY_FULL:
        yield warning("broker_nearly_full", f"{broker.filled:.0%} of its memory is used.", NO_MEMORY.advice)
    address = parse(url)
    if not address.password and not endpoints.is_local(address.host):
        detail = "It accepts connections from other machines without a password."
        yield warning("broker_open", detail, "Set requirepass or a user on it, and add it to TEAM_SESSIONS_REDIS_URL.")
