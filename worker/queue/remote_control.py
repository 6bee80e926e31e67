"""Celery's remote control, limited to what shows something, and to `shutdown`.

The other commands change one worker in ways that nothing undoes: it drops a run (`revoke`), consumes a queue no more
(`cancel_consumer`), or starts one run an hour (`rate_limit`). Runs are cancelled over the API.
"""

from celery.worker.control import Panel

ALLOWED = (
    *("ping", "stats", "conf", "registered", "active_queues"),
    *("active", "reserved", "scheduled", "revoked", "query_task"),
    *("enable_events", "heartbeat"),  # what monitors ask for
    "shutdown",  # as SIGTERM
)


def limit() -> None:
    """Remove all other commands from this process."""
    aliases = {Panel.meta[name].alias for name in ALLOWED}
    for name in Panel.data.keys() - {*ALLOWED, *aliases}:
        del Panel.data[name]
