"""`Session`: what `team.get_session()` returns to a script."""

from enum import Enum
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from worker.domain import Message, Run, SessionRow, Summary, ToolCall
from worker.domain.bounds import OF_SESSION
from worker.errors import SessionNotFound
from worker.loop.definition import Definition
from worker.process.runtime import Runtime
from worker.store import Transaction, messages, runs, sessions, summaries
from worker.summaries import due
from worker.summaries.in_process import refresh_now

PAGE = 500
EMPTY: dict[str, Any] = {"tags": [], "metadata": {}}  # of the others: None


class Keep(Enum):
    """The value of a field that stays as it is."""

    KEEP = "keep"


KEEP = Keep.KEEP


class Session:
    """One session. Its fields are those of the last read; `update` writes and reads them again."""

    def __init__(self, runtime: Runtime, definition: Definition, pk: int, row: SessionRow) -> None:
        self._runtime = runtime
        self._definition = definition
        self.pk = pk  # internal; other programs identify a session by its id and user
        self._row = row

    def __getattr__(self, name: str) -> Any:
        if name in SessionRow.__dataclass_fields__:
            return getattr(self._row, name)
        raise AttributeError(f"a Session has no {name!r}; it has {', '.join(SessionRow.__dataclass_fields__)}")

    def __repr__(self) -> str:
        return f"Session(session_id={self._row.session_id!r}, user_id={self._row.user_id!r})"

    def update(
        self,
        name: str | Keep | None = KEEP,
        description: str | Keep | None = KEEP,
        tags: list[str] | Keep | None = KEEP,
        *,
        metadata: dict[str, Any] | Keep | None = KEEP,
    ) -> "Session":
        """Replace the fields that are named, and return the session.

        None clears a field: a name or a description is None then, tags and metadata are empty.

        Raises:
            SessionNotFound: it was deleted.
            InvalidType, InvalidText, InvalidJson, ValueTooLarge
        """
        fields = {"name": name, "description": description, "tags": tags, "metadata": metadata}
        values = {field: value for field, value in fields.items() if not isinstance(value, Keep)}
        for field, value in values.items():
            values[field] = EMPTY.get(field) if value is None else OF_SESSION[field](value, field=field)
        with self._runtime.db.write() as tx:
            if not sessions.lock(tx, self.pk):
                raise SessionNotFound(session_id=self._row.session_id)
            if values:
                sessions.change(tx, self.pk, values)
            row = sessions.get(tx, self.pk)
        assert row is not None
        self._row = row
        return self

    def get_messages_for_session(self, *, last_n_runs: int | None = None) -> list[Message]:
        """Return the messages of the session, or of its last *last_n_runs*, including members', oldest first."""
        newest = None if last_n_runs is None else {run.id for run in self.get_runs(limit=last_n_runs)}

        def read(tx: Transaction, after: int, limit: int) -> list[Message]:
            return messages.page(tx, session_pk=self.pk, after_seq=after, limit=limit)

        pages = self._runtime.db.pages(read, key=attrgetter("seq"), after=0, limit=PAGE)
        return [m for m in chain.from_iterable(pages) if newest is None or m.run_id in newest]

    def get_chat_history(self, *, last_n_runs: int | None = None) -> list[Message]:
        """Return the texts of user and team, oldest first, without replies that only call tools."""
        written = self.get_messages_for_session(last_n_runs=last_n_runs)
        return [m for m in written if m.delegation is None and m.role != "tool" and m.content]

    def get_tool_calls(self) -> list[ToolCall]:
        """Return the tool calls of the session, including members', oldest first."""
        return [call for message in self.get_messages_for_session() for call in message.tool_calls]

    @property
    def runs(self) -> list[Run]:
        """All runs of the session, in order, each as it is now."""
        return self.get_runs()

    def get_runs(self, *, limit: int | None = None) -> list[Run]:
        """Return the runs of the session, in order, each as it is now; with *limit* the last ones."""
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; expected 1 or more")

        def read(tx: Transaction, after: int | None, limit: int) -> list[Run]:
            return runs.of_session(tx, self.pk, before=after, limit=limit)

        pages = self._runtime.db.pages(read, key=attrgetter("position"), after=None, limit=min(limit or PAGE, PAGE))
        return list(islice(chain.from_iterable(pages), limit))[::-1]

    def get_session_summary(self, *, version: int | None = None) -> Summary | None:
        """Return the summary, or an older *version* of it, or None."""
        with self._runtime.db.read() as tx:
            return summaries.get(tx, self.pk, version=version)

    def refresh_summary(self, *, rebuild: bool = False) -> Summary | None:
        """Refresh the summary in this process, and return it; None: no run has ended yet.

        With *rebuild* it is made from the first message again, for example after its prompt or model has changed.

        Raises:
            SummaryFailed: the model failed; workers retry it.
        """
        with self._runtime.db.write() as tx:
            due.request(tx, self.pk, session_id=self._row.session_id, team=self._row.team, rebuild=rebuild)
        refresh_now(self._runtime, self._definition, self.pk)
        return self.get_session_summary()
