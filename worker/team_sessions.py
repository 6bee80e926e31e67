"""The sessions of a team: found, listed, read, changed and deleted by a script."""

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import Any

from worker.aio import twin
from worker.db import Db
from worker.domain import (
    Message,
    Principal,
    Run,
    SessionRow,
    StateChange,
    Summary,
    ToolCall,
    Usage,
    check_object,
)
from worker.errors import AmbiguousSession, ArgumentInvalid, NoLastSession, SessionNotFound
from worker.loop.definition import Definition
from worker.session import PAGE, Session
from worker.store import Transaction as Connection
from worker.store import erasure, sessions


class TeamSessions:
    """What a `Team` can do with its sessions.

    Where an id can be left out, it is that of the last session that `run` of this very object used, in any thread, and
    its user. Raises NoLastSession if there is none, or if it is gone.
    """

    id: str
    db: Db
    definition: Definition
    _last: tuple[str, str] | None = None  # session id and user id
    _last_run: str | None = None

    def get_session(self, session_id: str | None = None, *, user_id: str | None = None) -> Session | None:
        """Return a session of this team, or None; without an id the last one that it ran.

        Raises:
            AmbiguousSession: more than one user has a session of this id, and *user_id* names none.
        """
        if session_id is None:
            if self._last is None:
                return None
            session_id, user_id = self._last[0], self._last[1] if user_id is None else user_id
        runtime = self.db.runtime
        with runtime.db.read() as tx:
            matches = sessions.find(tx, session_id=session_id, principal=self._principal, user_id=user_id)
            if len(matches) > 1:
                raise AmbiguousSession(session_id=session_id)
            row = sessions.get(tx, matches[0].pk) if matches else None
        return None if row is None else Session(runtime, self.definition, matches[0].pk, row)

    def get_all_sessions(self, *, user_id: str | None = None) -> list[Session]:
        """Return the sessions of this team, newest first; with *user_id* those of that user."""
        runtime, principal = self.db.runtime, self._principal

        def read(tx: Connection, after: int | None, limit: int) -> list[tuple[int, SessionRow]]:
            return sessions.page(tx, principal=principal, user_id=user_id, team=self.id, before=after, limit=limit)

        pages = runtime.db.pages(read, key=itemgetter(0), after=None, limit=PAGE)
        return [Session(runtime, self.definition, pk, row) for page in pages for pk, row in page]

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> bool:
        """Delete a session with its messages, runs and streams. Return False if there is none.

        A run that is executing ends at its next write.
        """
        session = self.get_session(session_id, user_id=user_id)
        if session is None:
            return False
        runtime = self.db.runtime
        with runtime.db.write() as tx:
            streaming = erasure.erase_session(tx, session.pk, streams_s=runtime.settings.stream_seconds).streaming
        runtime.publisher.erase(streaming)
        return True

    def get_messages_for_session(self, session_id: str | None = None, *, user_id: str | None = None) -> list[Message]:
        """Return all messages of a session, including members', oldest first. Raises SessionNotFound."""
        return self._session(session_id, user_id).get_messages_for_session()

    def get_session_messages(
        self,
        session_id: str | None = None,
        *,
        user_id: str | None = None,
        limit: int | None = None,
        last_n_runs: int | None = None,
        skip_roles: Collection[str] = (),
    ) -> list[Message]:
        """Return the messages of a session, oldest first: of the last *last_n_runs*, the last *limit* of them.

        Raises:
            SessionNotFound
        """
        session = self._session(session_id, user_id)
        chosen = [m for m in session.get_messages_for_session(last_n_runs=last_n_runs) if m.role not in skip_roles]
        return chosen if limit is None else chosen[max(0, len(chosen) - limit) :]

    def get_chat_history(
        self, session_id: str | None = None, *, user_id: str | None = None, last_n_runs: int | None = None
    ) -> list[Message]:
        """Return the texts of user and team, oldest first; no bare tool calls. Raises SessionNotFound."""
        return self._session(session_id, user_id).get_chat_history(last_n_runs=last_n_runs)

    def get_session_summary(
        self, session_id: str | None = None, *, user_id: str | None = None, version: int | None = None
    ) -> Summary | None:
        """Return the summary of a session, or an older *version* of it, or None. Raises SessionNotFound."""
        return self._session(session_id, user_id).get_session_summary(version=version)

    def get_tool_calls(self, session_id: str | None = None, *, user_id: str | None = None) -> list[ToolCall]:
        """Return the tool calls of a session, including members', oldest first. Raises SessionNotFound."""
        return self._session(session_id, user_id).get_tool_calls()

    def get_tool_call_history(self, session_id: str | None = None, *, user_id: str | None = None) -> list[ToolCall]:
        """Return the tool calls of a session, including members', newest first. Raises SessionNotFound."""
        return self.get_tool_calls(session_id, user_id=user_id)[::-1]

    def get_session_metrics(self, session_id: str | None = None, *, user_id: str | None = None) -> Usage:
        """Return the usage of all runs of a session, added up. Raises SessionNotFound."""
        return sum((run.usage for run in self._session(session_id, user_id).runs), Usage())

    def get_session_name(self, session_id: str | None = None, *, user_id: str | None = None) -> str | None:
        """Return the name of a session, or None. Raises SessionNotFound."""
        return self._session(session_id, user_id).name  # type: ignore[no-any-return]  # fields of the row

    def set_session_name(
        self,
        session_id: str | None = None,
        *,
        session_name: str | None = None,
        user_id: str | None = None,
        autogenerate: bool = False,
    ) -> Session:
        """Give a session a name, or none, and return the session.

        Raises:
            SessionNotFound, InvalidType, InvalidText
            ArgumentInvalid: *autogenerate*, which Agno has.
        """
        if autogenerate:
            raise ArgumentInvalid(problem="no name is generated; give a session_name")
        return self._session(session_id, user_id).update(name=session_name)

    def get_session_state(self, session_id: str | None = None, *, user_id: str | None = None) -> dict[str, Any]:
        """Return the session's state. Raises SessionNotFound."""
        return dict(self._session(session_id, user_id).state)

    def update_session_state(
        self, session_id: str, changes: Mapping[str, Any], *, user_id: str | None = None
    ) -> dict[str, Any]:
        """Set top-level keys of the session's state, and return the state. Other keys keep concurrent changes.

        Raises:
            SessionNotFound, InvalidType, InvalidText, InvalidJson, ValueTooLarge
        """
        values = check_object(changes, field="session_state")
        session = self._session(session_id, user_id)
        with self.db.runtime.db.write() as tx:
            if not sessions.lock(tx, session.pk):
                raise SessionNotFound(session_id=session_id)
            return sessions.change_state(tx, session.pk, StateChange(values))

    aget_session = twin(get_session)
    aget_all_sessions = twin(get_all_sessions)
    adelete_session = twin(delete_session)
    aget_messages_for_session = twin(get_messages_for_session)
    aget_session_messages = twin(get_session_messages)
    aget_chat_history = twin(get_chat_history)
    aget_session_summary = twin(get_session_summary)
    aget_tool_calls = twin(get_tool_calls)
    aget_tool_call_history = twin(get_tool_call_history)
    aget_session_metrics = twin(get_session_metrics)
    aget_session_name = twin(get_session_name)
    aset_session_name = twin(set_session_name)
    aget_session_state = twin(get_session_state)
    aupdate_session_state = twin(update_session_state)

    @property
    def _principal(self) -> Principal:
        return Principal(key_id="", teams=frozenset({self.id}))

    def _remember(self, run: Run) -> None:
        """Note a run that was accepted, and its session: the last ones."""
        self._last, self._last_run = (run.session_id, run.user_id), run.id

    def _last_run_id(self) -> str:
        if self._last_run is None:
            raise NoLastSession(team=self.id)
        return self._last_run

    def _session(self, session_id: str | None, user_id: str | None) -> Session:
        session = self.get_session(session_id, user_id=user_id)
        if session is None:
            raise NoLastSession(team=self.id) if session_id is None else SessionNotFound(session_id=session_id)
        return session
