"""What can happen to the runs of two sessions whose summaries are looked at, with their texts told apart."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sqlalchemy import update

from tests.properties.summary_checks import Story
from tests.support.condensing import answer, begin, called, finish, write
from tests.support.life import accept
from worker.domain import Dispatch, Draft, Due, Role, Status, new_id
from worker.runs.cancel import cancel
from worker.store import Database, erasure
from worker.store.tables import runs

FOUR = Due(4, 1_000_000)
NAMES = st.sampled_from(["a", "b"])


class Runs(RuleBasedStateMachine):
    """Runs begin, call tools and members, end, are cancelled or rolled back; sessions are deleted."""

    db: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.user = new_id("u")
        self.stories: dict[str, tuple[int, Story]] = {}  # name of a session → our key, and what is known of it
        self.deleted: list[int] = []
        self.bells: list[int] = []  # that were sent, and may be heard: once, twice, late or never
        self.said = 0

    @initialize(turns=st.integers(0, 3), results=st.integers(1, 3))
    def both_begin(self, turns: int, results: int) -> None:
        """Each session has a run, so that something can happen to it."""
        for name in ("a", "b"):
            self.a_run_ends(name, turns, results, False)

    @rule(name=NAMES, turns=st.integers(0, 3), results=st.integers(1, 3), failing=st.booleans())
    def a_run_ends(self, name: str, turns: int, results: int, failing: bool) -> None:
        """A run is executed from its input to its answer, or to its failure."""
        self.a_run_begins(name, turns, results)
        self.the_run_ends(name, Status.FAILED if failing else Status.COMPLETED)

    @rule(name=NAMES, turns=st.integers(0, 2), results=st.integers(1, 2))
    def a_run_begins(self, name: str, turns: int, results: int) -> None:
        """A run has written its first messages, and goes on."""
        if name in self.stories and self.stories[name][1].unfinished:
            return
        claim = begin(self.db, self._text(), session=self._id(name), due=FOUR)
        pk, story = self.stories.setdefault(name, (claim.session_pk, Story(claim)))
        assert pk == claim.session_pk
        story.claim, story.unfinished = claim, True
        for _ in range(turns):
            reply, *found = called(*(self._text() for _ in range(results)))
            write(self.db, claim, replace(reply, content=self._text()), *found)

    @rule(name=NAMES, status=st.sampled_from([Status.COMPLETED, Status.FAILED, Status.CANCELLED]))
    def the_run_ends(self, name: str, status: Status) -> None:
        """A run that was begun ends, behind the message of a member."""
        story = self.stories[name][1] if name in self.stories else None
        if story is not None and story.unfinished:
            story.unfinished = False
            member = Draft(Role.ASSISTANT, "member", self._text(), delegation="d")
            self._ring(finish(self.db, story.claim, member, answer(self._text()), status=status))

    @rule(name=NAMES)
    def the_run_is_rolled_back(self, name: str) -> None:
        """The head is left out of later contexts and summaries while it is unfinished, and ends."""
        if name in self.stories and self.stories[name][1].unfinished:
            with self.db.write() as tx:
                run_id = self.stories[name][1].claim.run_id
                tx.execute(update(runs).where(runs.c.id == run_id).values(excluded=True))
            self.the_run_ends(name, Status.CANCELLED)

    @rule(name=NAMES)
    def a_queued_run_is_cancelled(self, name: str) -> None:
        """At once, or when the head passes it."""
        if name in self.stories:
            run_id = accept(self.db, self._text(), session=self._id(name)).run.id
            self._ring(cancel(self.db, run_id)[1])

    @rule(name=NAMES, sure=st.sampled_from([False] * 9 + [True]))
    def the_session_is_deleted(self, name: str, sure: bool) -> None:
        """With all that hangs on it, whoever is at it."""
        if name in self.stories and sure:
            pk, _ = self.stories.pop(name)
            with self.db.write() as tx:
                erasure.erase_session(tx, pk)
            self.deleted.append(pk)

    def _ring(self, ready: Iterable[Dispatch]) -> None:
        mine = [pk for pk, _ in self.stories.values()]
        sent = [int(dispatch.ids["session_pk"]) for dispatch in ready if dispatch.queue == "summaries"]
        self.bells += [pk for pk in sent if pk in mine]

    def _id(self, name: str) -> str:
        return f"{name}-{self.user}"

    def _text(self) -> str:
        self.said += 1
        return f"m{self.said}; {'x' * 50}"
