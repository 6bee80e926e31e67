"""The statements that reach the driver, from SQLAlchemy and from `worker/store/hot.py`."""

from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Engine, event

Seen = Callable[[Any, str, Any], object]  # gets the cursor, the statement and its parameters, or a list of them


def _nothing(_cursor: Any, _statement: str, _parameters: Any) -> None: ...


def listen(engine: Engine, *, before: Seen = _nothing, after: Seen = _nothing) -> Callable[[], None]:
    """Call *before* and *after* around each statement of *engine*, from now until the returned function is called.

    Not for BEGIN, COMMIT and ROLLBACK, nor for what a new connection sends, or the test of an idle one.
    """
    if engine.dialect.name == "sqlite":
        return _listen_to_sqlalchemy(engine, before, after)

    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            if query == "SELECT 1":
                return super().execute(query, params, **options)
            before(self, str(query), params)
            result = super().execute(query, params, **options)
            after(self, str(query), params)
            return result

        def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
            before(self, str(query), params_seq)
            super().executemany(query, params_seq, **options)
            after(self, str(query), params_seq)

    def connected(connection: Any, _record: Any) -> None:
        connection.cursor_factory = Cursor

    def stop() -> None:
        event.remove(engine, "connect", connected)
        engine.dispose()

    event.listen(engine, "connect", connected)
    engine.dispose()  # idle connections have another class of cursors
    return stop


def _listen_to_sqlalchemy(engine: Engine, before: Seen, after: Seen) -> Callable[[], None]:
    def executes(seen: Seen) -> Callable[..., None]:
        def executed(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if not statement.startswith("BEGIN"):
                seen(cursor, statement, parameters)

        return executed

    listeners = {"before_cursor_execute": executes(before), "after_cursor_execute": executes(after)}
    for name, listener in listeners.items():
        event.listen(engine, name, listener)

    def stop() -> None:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)

    return stop
