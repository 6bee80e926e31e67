"""What a run sees of its session's past: the history in its context, and what its tools may read."""

from worker.domain.message import Message, Role
from worker.domain.run import Claim
from worker.loop.definition import Definition
from worker.store import messages
from worker.store.engine import Database


class SessionPast:
    """The messages before one claimed run. What it reads does not grow with the session."""

    def __init__(self, db: Database, claim: Claim) -> None:
        self._db = db
        self._claim = claim

    def history(self, definition: Definition) -> list[Message]:
        """Return the history that belongs into the context: exactly the last runs, or the last messages.

        A history that is cut by messages begins with a user's, so that no tool call is torn from its result.
        """
        if not definition.add_history_to_context:
            return []
        pk = self._claim.session_pk
        with self._db.read() as tx:
            if definition.num_history_messages is None:
                count = definition.num_history_runs
                return messages.of_last_runs(tx, session_pk=pk, before=self._claim.position, count=count)
            newest = messages.of_last_messages(
                tx, session_pk=pk, before_seq=self._claim.first_seq, count=definition.num_history_messages
            )
        begin = next((n for n, m in enumerate(newest) if m.role is Role.USER), len(newest))
        return newest[begin:]

    def chat(self, *, limit: int, num_runs: int | None) -> list[Message]:
        """Return what was said, newest first; see `loop.journal.Past`."""
        since = 1 if num_runs is None else max(1, self._claim.position - num_runs)
        with self._db.read() as tx:
            return messages.chat(
                tx,
                session_pk=self._claim.session_pk,
                before_seq=self._claim.first_seq,
                since_position=since,
                limit=limit,
            )

    def tool_results(self, *, limit: int) -> list[tuple[Message, Message]]:
        """Return results of tools with the replies that asked, newest first; see `loop.journal.Past`."""
        with self._db.read() as tx:
            place = {"session_pk": self._claim.session_pk, "before_seq": self._claim.first_seq}
            return messages.tool_results(tx, **place, limit=limit)
