"""A state machine that breaks promise 7 on purpose, on the real code and a real database.

Its steps are what can happen to the summaries of two sessions: runs begin, call tools, end, are cancelled or rolled
back; deliveries come twice, late or never; models answer, fail or say nothing; processes crash at a commit, stall at
the model's door or in front of their store, and wake up when others have gone on; sessions are deleted, prompts change,
and summaries are rebuilt.
Each refresh is `worker.summaries.refresh.refresh` on a thread, held where the machine says. After each step the rows,
what the models were told, and what the next run would see are checked: `summary_checks`.
Which rule comes next and its arguments never depend on rows or threads, so that a schedule that failed can be played
again: a rule without anything to act on does nothing.
"""

import time
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from sqlalchemy import select, update

from tests.properties.attempts import SETTLE_S, Attempt, Crash, GatedModel
from tests.properties.summary_checks import (
    Asked,
    Refreshing,
    RequestedRebuild,
    Story,
    marks,
    of_version,
    problems,
    read,
    text_of,
)
from tests.properties.summary_runs import FOUR, NAMES, Runs
from tests.support.condensing import formed
from worker.domain import ChatRequest, Reply, SessionSummaryManager, Status, Usage
from worker.errors import ModelRefused, ModelUnavailable
from worker.process.runtime import Runtime
from worker.process.semaphore import Semaphore
from worker.store import summary_jobs
from worker.store.columns import db_time
from worker.store.tables import messages as messages_table
from worker.store.tables import summaries as versions_table
from worker.store.tables import summary_jobs as jobs_table
from worker.summaries import due
from worker.team import Team

ANSWERS = st.sampled_from(["text", "text", "text", "text", "unavailable", "refused", "nothing"])
PROCESSES = st.integers(0, 2)
REBUILD = st.booleans()
PICK = st.integers(0, 3)  # of the refreshes under way
WITH_REBUILDS = ("", "less:", "mixed:", "lost:")  # a broken promise of others is found sooner without them
SO_FAR, SO_FAR_END = "The summary so far:\n<summary>\n", "\n</summary>"


class Summaries(Runs):
    """The rules. `db` and `processes` are set by the test that runs it; `only`: the promise that it looks at."""

    processes: ClassVar[list[Runtime]]
    only: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.live: list[Refreshing] = []
        self.asked: dict[int, Asked] = {}  # number of an attempt → what its model was asked last
        self.answered: dict[str, Asked] = {}  # text of a version → what was asked for it
        self.count = 0
        self.asks = 0
        self.prompt = "first prompt"
        self.found: list[str] = []
        self.marks: dict[int, tuple[Any, ...]] = {}  # how each session stood when it was looked at
        self.reader = Team(id="t", enable_session_summaries=True, add_history_to_context=True).definition

    # What can happen to refreshes.

    @rule(name=NAMES, rebuild=REBUILD)
    def somebody_wants_the_summary(self, name: str, rebuild: bool) -> None:
        """Due or not; or rebuilt from the first message, unless a rebuild is under way."""
        if name not in self.stories:
            return
        pk, story = self.stories[name]
        rebuild = rebuild and self.only in WITH_REBUILDS
        if rebuild:
            rows = read(self.db, pk)
            if rows.job is None or not rows.job.rebuild:
                story.rebuild = RequestedRebuild(rows.finished_seq, self.asks) if rows.finished_seq else None
        with self.db.write() as tx:
            self._ring(due.request(tx, pk, session_id=self._id(name), team="t", rebuild=rebuild))

    @rule(prompt=st.sampled_from(["first prompt", "second prompt"]))
    def the_prompt_changes(self, prompt: str) -> None:
        """A deploy: the next refreshes are asked for with another one."""
        self.prompt = prompt

    @rule(bell=st.integers(0, 5), process=PROCESSES)
    def a_bell_is_heard(self, bell: int, process: int) -> None:
        """A delivery: the first, a double, a late one, or one for a session that is gone."""
        if self.bells and len(self.live) < 4:
            self._start(self.bells[-1 - bell % len(self.bells)], process)

    @rule(name=NAMES, process=PROCESSES, beside_a_run=st.booleans(), rebuild=REBUILD)
    def a_refresh_begins(self, name: str, process: int, beside_a_run: bool, rebuild: bool) -> None:
        """Somebody wants it, and the bell is heard."""
        if name in self.stories and len(self.live) < 4:
            if beside_a_run:
                self.a_run_begins(name, 1, 1)
            self.somebody_wants_the_summary(name, rebuild)
            self._start(self.stories[name][0], process)

    @rule()
    def the_sweep_rings_again(self) -> None:
        """Time passes: leases run out, waits are over, and what was lost is found."""
        self._time_passes()
        with self.db.write() as tx:
            self._ring(summary_jobs.take_ready(tx, teams=["t"], limit=10))

    @rule(pick=PICK, what=ANSWERS)
    def a_model_answers(self, pick: int, what: str) -> None:
        """With a summary, with nothing, or not at all."""
        if refreshing := self._one(pick):
            self._give(refreshing, what)

    @rule(pick=PICK, commit=st.integers(0, 1), what=ANSWERS)
    def a_process_crashes(self, pick: int, commit: int, what: str) -> None:
        """While its model has not answered, or just before it would have stored the answer."""
        if refreshing := self._one(pick):
            refreshing.crash_at_commit = commit
            refreshing.answer = self._answer(refreshing, what) if commit else Crash()
            self._settle(refreshing)

    @rule(pick=PICK, process=PROCESSES, first=ANSWERS, second=ANSWERS)
    def two_stand_at_the_door(self, pick: int, process: int, first: str, second: str) -> None:
        """A process stalls past its lease, another takes its refresh over, and both models answer, the stale first."""
        refreshing = self._one(pick)
        if refreshing is None:
            return
        self._time_passes()
        other = self._start(refreshing.session_pk, process)
        for one, what in ((refreshing, first), (other, second)):
            if one.alive:
                self._give(one, what)

    @rule(pick=PICK, step=st.integers(1, 2), first=ANSWERS, seconds=st.lists(ANSWERS, max_size=3))
    def two_stand_at_the_store(self, pick: int, step: int, first: str, seconds: list[str]) -> None:
        """A process stalls with its answer, in front of the transaction that would store it; another one goes on."""
        refreshing = self._one(pick)
        if refreshing is None:
            return
        refreshing.hold_at = 1
        refreshing.answer = self._answer(refreshing, first)
        wait = time.monotonic() + SETTLE_S
        while not refreshing.held.is_set() and refreshing.alive and time.monotonic() < wait:
            time.sleep(0.001)
        self._time_passes()
        other = self._start(refreshing.session_pk, (refreshing.process + step) % 3)
        for what in seconds:
            if other.alive:
                self._give(other, what)
        refreshing.release.set()
        self._settle(refreshing)
        refreshing.hold_at = 0
        refreshing.held.clear()
        refreshing.release.clear()

    @rule(process=PROCESSES)
    def a_keeper_looks(self, process: int) -> None:
        """A process learns which of its refreshes it has lost, and ends them."""
        self.processes[process].keeper.once()
        for one in [one for one in self.live if one.process == process]:
            job = read(self.db, one.session_pk).job if self._story(one.session_pk) else None
            if job is None or job.lease_owner is None or job.fence != one.taken[0]:
                self._end(one)

    # What must hold after each step.

    @invariant()
    def promises_hold(self) -> None:
        """Read the rows, and say which promise they break."""
        now = marks(self.db, [pk for pk, _ in self.stories.values()])
        for pk, story in self.stories.values():
            if now[pk] != self.marks.get(pk):
                for problem in problems(self.db, pk, story, self.reader, FOUR):
                    self._find(problem)
        self.marks = now
        with self.db.read() as tx:
            for table in (messages_table, versions_table, jobs_table):
                left = tx.execute(select(table.c.session_pk).where(table.c.session_pk.in_(self.deleted))).first()
                if left is not None:
                    self._find(f"deleted: a session that is gone has rows in {table.name}")
        assert not self.found, self.found

    def teardown(self) -> None:
        """However it stands: with one process that works, every session has its summary."""
        for refreshing in self.live:
            refreshing.answer = Crash()
            self._settle(refreshing)
        for name in list(self.stories):
            self.the_run_ends(name, Status.COMPLETED)
            self.promises_hold()
            job = read(self.db, self.stories[name][0]).job
            self.somebody_wants_the_summary(
                name, rebuild=job is not None and job.rebuild
            )  # one that failed waits for it
        while True:
            self.bells.clear()
            self.the_sweep_rings_again()
            if not self.bells:
                break
            for pk in self.bells:
                refreshing = self._start(pk, 0)
                while refreshing.alive:
                    self._give(refreshing, "text")
            self.promises_hold()
        for pk, _story in self.stories.values():
            rows = read(self.db, pk)
            assert (rows.job, rows.session.covers_through_seq) == (None, rows.finished_seq), (
                "stuck: a refresh was not made"
            )

    # How the machine moves a refresh from door to door.

    def _start(self, session_pk: int, process: int) -> Refreshing:
        self.count += 1
        runtime = self.processes[process]
        refreshing = Refreshing(self.count, "", runtime, session_pk=session_pk, process=process, prompt=self.prompt)
        manager = SessionSummaryManager(GatedModel(refreshing, self._note), self.prompt)
        team = Team(id="t", session_summary_manager=manager, enable_session_summaries=True).definition
        refreshing.runtime = replace(runtime, teams={"t": team}, summary_slots=Semaphore(8))
        self.live.append(refreshing)
        refreshing.start()
        refreshing.settle()
        if refreshing.outcome != "nothing to do":  # it has taken the job: one of its own process before is told so
            for one in [one for one in self.live if (one.process, one.session_pk) == (process, session_pk)]:
                if one is not refreshing:
                    self._end(one)
        story = self._story(session_pk)
        if refreshing.alive and story is not None:
            job = read(self.db, session_pk).job
            refreshing.taken = story.taken = (job.fence, job.requested_at)
            story.holder = refreshing
        self._settle(refreshing)
        return refreshing

    def _note(self, attempt: Attempt, request: ChatRequest) -> None:
        assert isinstance(attempt, Refreshing)
        so_far, _, _ = request.messages[1].content.partition("\n\nThe messages that follow it:\n")
        before = (
            self.answered[so_far.removeprefix(SO_FAR).removesuffix(SO_FAR_END)] if so_far.startswith(SO_FAR) else None
        )
        self.asks += 1
        self.asked[attempt.number] = Asked(attempt, request, self.asks, before)

    def _give(self, refreshing: Refreshing, what: str) -> None:
        refreshing.answer = self._answer(refreshing, what)
        self._settle(refreshing)

    def _answer(self, refreshing: Refreshing, what: str) -> Reply | BaseException:
        if what == "unavailable":
            return ModelUnavailable(model="gated", reason="test", retry_after_s=3600)
        if what == "refused":
            return ModelRefused(model="gated", reason="test")
        asked = self.asked[refreshing.number]
        text = text_of(asked) if what == "text" else ""
        self.answered[text] = asked
        return Reply(formed(text), (), Usage(1, 1, 0, 1))

    def _settle(self, refreshing: Refreshing) -> None:
        """Let it come to its next door or its end, and note the version that it has stored meanwhile."""
        refreshing.settle()
        self.live = [one for one in self.live if one.alive]
        story = self._story(refreshing.session_pk)
        if story is None:
            return
        rows = read(self.db, refreshing.session_pk)
        requested = rows.job is not None and rows.job.rebuild
        for version in rows.versions:
            if version.version > len(story.chain):
                asked, covers = self.answered[version.text], version.covers_through_seq
                for problem in of_version(story, asked, covers_through_seq=covers, still_requested=requested):
                    self._find(problem)
                if asked.attempt.taken != story.taken:
                    self._find("zombie: a process stored a version after another had taken its refresh over")

    def _end(self, refreshing: Refreshing) -> None:
        """Wait until a refresh has left the door, whose stop is set."""
        wait = time.monotonic() + SETTLE_S
        while refreshing.alive and time.monotonic() < wait:
            time.sleep(0.001)
        assert not refreshing.alive, "a refresh that was told to stop goes on"
        self._settle(refreshing)

    def _find(self, problem: str) -> None:
        if problem.startswith(self.only):
            self.found.append(problem)

    def _time_passes(self) -> None:
        mine = jobs_table.c.session_pk.in_([pk for pk, _ in self.stories.values()])
        with self.db.write() as tx:
            for column in (jobs_table.c.held_until, jobs_table.c.send_at):
                tx.execute(update(jobs_table).where(mine, column.is_not(None)).values({column: db_time(-1.0)}))
        for _, story in self.stories.values():
            story.holder = None

    def _one(self, pick: int) -> Refreshing | None:
        return self.live[pick % len(self.live)] if self.live else None

    def _story(self, session_pk: int) -> Story | None:
        return next((story for pk, story in self.stories.values() if pk == session_pk), None)
