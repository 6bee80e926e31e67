"""Say, once for each kind, that this process has no threads or no file handles left."""

from functools import cache

from worker.errors import WorkerExhausted
from worker.observe import logs

log = logs.get(__name__)


def found(error: BaseException) -> WorkerExhausted | None:
    """Return what *error* says that this process lacks, and log it the first time; None: it says something else."""
    exhausted = WorkerExhausted.of(error)
    if exhausted is not None:
        _log(exhausted.what)
    return exhausted


@cache
def _log(what: str) -> None:
    log.error("this process has none left; what needs one waits, or is put back", what=what)
