"""Check the broker when a process starts. What is wrong is said in the words of `doctor`."""

from worker.domain import Problem
from worker.errors import BrokerUnusable
from worker.events.broker_probe import Broker, probe
from worker.observe import logs
from worker.settings import Settings

log = logs.get(__name__)


def require(settings: Settings) -> Broker | Problem:
    """Use the broker as the processes do; return what it is, or a problem that waiting mends.

    Raises:
        BrokerUnusable: it has a problem that waiting does not mend.
        SettingsInvalid: no broker is set.
    """
    result = probe(settings.broker, prefix=settings.queue_prefix)
    if isinstance(result, Problem) and result.lasting:
        raise BrokerUnusable(problem=result.sentence, advice=result.advice)
    return result


def check(settings: Settings) -> None:
    """Do the same, and log what is wrong.

    Raises:
        BrokerUnusable, SettingsInvalid
    """
    result = require(settings)
    if isinstance(result, Problem):
        log.warning("the broker cannot be used yet", detail=f"{result.sentence} {result.advice}")
    elif result.policy is not None and result.policy.startswith("allkeys"):
        log.warning("the broker drops queued deliveries when its memory is full", policy=result.policy)
