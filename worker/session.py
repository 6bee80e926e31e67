"""A session as a script holds it: what `team.get_session()` returns."""

from typing import Any

from worker.domain.message import Message
from worker.domain.session import SessionRow
from worker.domain.text import check_json, check_text
from worker.errors import SessionNotFound
from worker.store import messages, sessions
from worker.store.engine import Database

PAGE = 500


class Session:
    """One session. Its fields are as they were when it was read; `update` writes, and reads them again."""

    def __init__(self, db: Database, pk: int, row: SessionRow) -> None:
        self._db = db
        self.pk = pk  # ours; other programs know a session by its id and its user
        self._row = row

    def __getattr__(self, name: str) -> Any:
        if name in SessionRow.__dataclass_fields__:
            return getattr(self._row, name)
        raise AttributeError(f"a Session has no {name!r}; it has {', '.join(SessionRow.__dataclass_fields__)}")

    def __repr__(self) -> str:
        return f"Session(session_id={self._row.session_id!r}, user_id={self._row.user_id!r})"

    def update(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> "Session":
        """Replace the fields that are given, and return the session.

        Raises:
            SessionNotFound: it was deleted.
            InvalidText, InvalidJson
        """
        given = {"name": name, "description": description, "tags": tags, "metadata": metadata}
        values = {field: value for field, value in given.items() if value is not None}
        for field, value in values.items():
            if isinstance(value, str):
                check_text(value, field=field)
            else:
                check_json(value, field=field)
        with self._db.write() as tx:
            if not sessions.lock(tx, self.pk):
                raise SessionNotFound(session_id=self._row.session_id)
            if values:
                sessions.change(tx, self.pk, values)
            row = sessions.get(tx, self.pk)
        assert row is not None
        self._row = row
        return self

    def get_messages_for_session(self) -> list[Message]:
        """Return all messages of the session, oldest first, members' too."""
        found: list[Message] = []
        while True:
            with self._db.read() as tx:
                after = found[-1].seq if found else 0
                page = messages.page(tx, session_pk=self.pk, after_seq=after, limit=PAGE)
            found += page
            if len(page) < PAGE:
                return found

    def get_chat_history(self) -> list[Message]:
        """Return what the user and the team said, oldest first, without replies that only call tools."""
        return [m for m in self.get_messages_for_session() if m.delegation is None and m.role != "tool" and m.content]
