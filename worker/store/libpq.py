"""Connections to Postgres from their URL alone.

libpq takes what a URL leaves open from PGHOST, PGPASSWORD and the like, which can be meant for another program of the
machine. Each that would count is overruled by libpq's own default, and named once in the log. A service and some
variables without a parameter cannot be overruled: `worker/environment.py`.
"""

import os
import pwd
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, event

from worker.observe import logs

# An empty value of all others means their default.
NO_EMPTY = {"sslcertmode": "allow", "min_protocol_version": "3.0", "max_protocol_version": "3.0"}

log = logs.get(__name__)
_named: set[str] = set()


def ignore_environment(engine: Engine) -> None:
    """Overrule the variables of libpq in each new connection of *engine*."""

    @event.listens_for(engine, "do_connect")
    def overrule(dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        ignored = []
        for option in dialect.dbapi.pq.Conninfo.get_defaults():
            name = option.keyword.decode()
            default = option.compiled.decode() if option.compiled else NO_EMPTY.get(name, "")
            if option.envvar is None or name in parameters or option.val in (None, option.compiled):
                continue
            if name == "user":
                default = _system_user() or option.val.decode()
            parameters[name] = default
            if option.val.decode() != default:
                ignored.append(option.envvar.decode())
        if new := sorted({*ignored} - _named):
            _named.update(new)
            log.warning("variables of libpq are ignored: name their values in the database's URL", names=", ".join(new))


def _system_user() -> str | None:
    with suppress(KeyError):  # a container's user may have no entry
        return pwd.getpwuid(os.geteuid()).pw_name
    return None
