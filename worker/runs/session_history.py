"""The part of its session's history that a run can see: in its context, and through its history tools."""

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from worker.domain import CHARS_PER_TOKEN, Claim, Excerpt, Message, Role, Viewpoint
from worker.errors import LeaseLost
from worker.loop import window
from worker.loop.conversation import History
from worker.loop.definition import NUM_HISTORY_RUNS, Definition
from worker.process.patience import Patience, at_once
from worker.store import Database, Transaction, messages, runs, summaries
from worker.store.messages import Bounds
from worker.store.summaries import Current

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
        """Return the history that the context of the run includes, of at most about *context_tokens*.

        - Without history: the summary, if the definition sends it, and no message.
        - With a number of runs or messages: exactly the last ones, and the summary, if the definition sends it.
        - With history and the summary, without a number: all messages after the summary, and before them the last runs
          that it covers. These are counted back from the end of the summary. So until the next summary, messages are
          only appended to the history.

        If not all of it fits, the newest messages that fit are returned. What neither the summary nor the messages hold
        is named in `missing`, if the definition sends a summary.
        """
        sends_summary = definition.add_session_summary_to_context
        if not sends_summary and not definition.add_history_to_context:
            return History()
        with self._db.read() as tx:
            summary = self._summary(tx) if sends_summary else Current("", 0, 0)
            if not definition.add_history_to_context:
                missing_from = self._behind(summary) if summary.covers_through_seq else 0
                return self._history((), summary, missing_from=missing_from, for_size=False)
            size = max(1, context_tokens * CHARS_PER_TOKEN - len(summary.text))
            if sends_summary and not definition.limits_history:
                return self._without_gap(tx, summary, _bounds(size))
            read, cut = messages.newest_of_last(
                tx,
                session_pk=self._from.session_pk,
                seen_from=self._from,
                run_count=definition.history_runs,
                count=definition.num_history_messages,
                bounds=_bounds(size),
            )
        start = next((n for n, e in enumerate(read) if e.message.role is Role.USER), len(read))
        missing_from = self._behind(summary) if sends_summary else 0
        return self._history(read[start:], summary, missing_from=missing_from, for_size=cut)

    def _without_gap(self, tx: Transaction, summary: Current, bounds: Bounds) -> History:
        pk, covers = self._from.session_pk, summary.covers_through_seq
        begin = covers + 1
        if covers:
            begin = messages.first_of_last(tx, session_pk=pk, summary=summary, run_count=NUM_HISTORY_RUNS)
        read, cut = messages.newest_that_fit(
            tx, session_pk=pk, since_seq=begin, before_seq=self._from.first_seq, bounds=bounds
        )
        # If all messages after the summary fit, they are kept, even if they begin in the middle of a run: a summary
        # never ends between a tool call and its result.
        start = next(
            (n for n, e in enumerate(read) if e.message.role is Role.USER or (e.message.seq > covers and not cut)),
            len(read),
        )
        return self._history(read[start:], summary, missing_from=max(covers + 1, begin) if cut else 0)

    def _summary(self, tx: Transaction) -> Current:
        return (
            summaries.current(tx, self._from.session_pk) if self._from.at is None else summaries.as_of(tx, self._from)
        )

    @staticmethod
    def _behind(summary: Current) -> int:
        return summary.covers_through_seq + 1

    def _history(
        self, kept: Sequence[Excerpt], summary: Current, *, missing_from: int, for_size: bool = True
    ) -> History:
        """Return a history of these messages. Those between *missing_from* and them are missing; 0: none is."""
        last = (kept[0].message.seq if kept else self._from.first_seq) - 1
        return History(
            tuple(e.message for e in kept),
            summary.text,
            summary.covers_through_seq,
            missing=(missing_from, last) if missing_from and missing_from <= last else None,
            for_size=for_size,
            lengths={e.message.seq: e.length for e in kept if e.length > len(e.message.content)},
        )

    @_patiently
    def chat(self, *, limit: int, num_runs: int | None, before: int | None, cut: int) -> list[Excerpt]:
        """Return the chat, newest first; see `loop.conversation.HistoryReader`."""
        since = 1 if num_runs is None else max(1, self._from.position - num_runs)
        pk, before_seq = self._from.session_pk, self._before(before)
        with self._db.read() as tx:
            return messages.chat(tx, session_pk=pk, before_seq=before_seq, since_position=since, limit=limit, cut=cut)

    @_patiently
    def tool_results(self, *, limit: int, before: int | None, cut: int) -> list[tuple[Message, Excerpt]]:
        """Return tool results with the replies that called the tools, newest first. See `HistoryReader`."""
        pk, before_seq = self._from.session_pk, self._before(before)
        with self._db.read() as tx:
            return messages.tool_results(tx, session_pk=pk, before_seq=before_seq, limit=limit, cut=cut)

    @_patiently
    def message(self, seq: int, *, begin: int, limit: int) -> Excerpt | None:
        """Return a part of one message; see `HistoryReader`."""
        if seq >= self._from.first_seq:
            return None
        with self._db.read() as tx:
            return messages.excerpt(tx, session_pk=self._from.session_pk, seq=seq, begin=begin, limit=limit)

    def _before(self, seq: int | None) -> int:
        return self._from.first_seq if seq is None else min(seq, self._from.first_seq)


def _bounds(size: int) -> Bounds:
    return Bounds(
        size,
        text=max(window.LEAST, size // window.EARLIER_TEXT),
        result=max(window.LEAST, size // window.EARLIER_RESULT),
        least_of_result=window.LEAST,
    )
