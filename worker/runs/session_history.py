"""The part of its session's history that a run can see: in its context, and through its history tools."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from worker.domain import CHARS_PER_TOKEN, Claim, Message, Role, Viewpoint
from worker.errors import LeaseLost
from worker.loop.conversation import History
from worker.loop.definition import Definition
from worker.process.patience import Patience, at_once
from worker.store import Database, messages, runs, summaries

P = ParamSpec("P")
T = TypeVar("T")


def _patiently(
    read: "Callable[Concatenate[SessionHistory, P], T]",
) -> "Callable[Concatenate[SessionHistory, P], T]":
    """Let a method wait while the database is away."""

    def again(self: "SessionHistory", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.patience.again(lambda: read(self, *args, **kwargs))

    return again


class SessionHistory:
    """Reads the messages before one claimed run. The size of each read does not grow with the session."""

    def __init__(self, db: Database, claim: Claim, patience: Patience | None = None) -> None:
        """Look back from the claimed run; if it is a replay, from the run that it repeats.

        Raises:
            LeaseLost: the run that it repeats was removed, and the replay with it.
        """
        self._db = db
        self.patience = patience or Patience(db, at_once)
        self._from = Viewpoint(claim.session_pk, claim.position, claim.first_seq)
        if claim.replay is not None:
            source = self._viewpoint(claim.replay.of)
            if source is None:
                raise LeaseLost(run_id=claim.run_id, fence=claim.fence)
            self._from = source

    @_patiently
    def _viewpoint(self, run_id: str) -> Viewpoint | None:
        with self._db.read() as tx:
            return runs.viewpoint(tx, run_id)

    @_patiently
    def history(self, definition: Definition, *, context_tokens: int) -> History:
        """Return the history that the context of the run includes.

        With a summary: all messages after the summary, and before them the last runs or messages that it covers, as
        many as the definition asks for. These are counted back from the end of the summary. So until the next summary,
        messages are only appended to the history. Only the newest messages that fit into about *context_tokens* are
        returned.
        Without a summary: the last runs or messages. The history then starts at the first message of a run, so it has
        no tool result without its call.
        """
        if definition.add_session_summary_to_context:
            return self._with_summary(definition, size=context_tokens * CHARS_PER_TOKEN)
        if not definition.add_history_to_context:
            return History()
        pk = self._from.session_pk
        with self._db.read() as tx:
            if definition.num_history_messages is None:
                count = definition.num_history_runs
                last = messages.of_last_runs(tx, session_pk=pk, before=self._from.position, count=count)
                return History(tuple(last))
            newest = messages.of_last_messages(
                tx, session_pk=pk, before_seq=self._from.first_seq, count=definition.num_history_messages
            )
        begin = next((n for n, m in enumerate(newest) if m.role is Role.USER), len(newest))
        return History(tuple(newest[begin:]))

    def _with_summary(self, definition: Definition, *, size: int) -> History:
        pk, before = self._from.session_pk, self._from.first_seq
        with self._db.read() as tx:
            summary = summaries.current(tx, pk) if self._from.at is None else summaries.as_of(tx, self._from)
            covers = summary.covers_through_seq
            begin = covers + 1
            if covers and definition.add_history_to_context:
                run_count, count = definition.num_history_runs, definition.num_history_messages
                begin = messages.first_of_last(tx, session_pk=pk, summary=summary, run_count=run_count, count=count)
            room = max(1, size - len(summary.text))
            read, cut = messages.newest_that_fit(tx, session_pk=pk, since_seq=begin, before_seq=before, size=room)
        # If all messages after the summary fit, they are kept, even if they begin in the middle of a run: a summary
        # never ends between a tool call and its result.
        start = next((n for n, m in enumerate(read) if m.role is Role.USER or (m.seq > covers and not cut)), len(read))
        kept = tuple(read[start:])
        first, last = max(covers + 1, begin), (kept[0].seq if kept else before) - 1
        missing = (first, last) if cut and first <= last else None
        return History(kept, summary.text, covers, missing)

    @_patiently
    def chat(self, *, limit: int, num_runs: int | None) -> list[Message]:
        """Return the chat, newest first; see `loop.conversation.HistoryReader`."""
        since = 1 if num_runs is None else max(1, self._from.position - num_runs)
        with self._db.read() as tx:
            return messages.chat(
                tx, session_pk=self._from.session_pk, before_seq=self._from.first_seq, since_position=since, limit=limit
            )

    @_patiently
    def tool_results(self, *, limit: int) -> list[tuple[Message, Message]]:
        """Return tool results with the replies that called the tools, newest first. See `HistoryReader`."""
        with self._db.read() as tx:
            return messages.tool_results(
                tx, session_pk=self._from.session_pk, before_seq=self._from.first_seq, limit=limit
            )
