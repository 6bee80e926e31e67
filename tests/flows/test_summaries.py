"""How a summary is made: by one process at a time, piece after piece, whatever happens to models and processes."""

import json
from collections.abc import Callable

import pytest

from tests.support import look
from tests.support.condensing import (
    TWO,
    HeldModel,
    answer,
    begin,
    bells,
    condensed_messages,
    converse,
    covered,
    finish,
    formed,
    jobs,
    long_history,
    on_thread,
    session_row,
    team,
    time_passes,
    versions,
)
from tests.support.outcomes import refresh
from worker import ScriptedModel
from worker.domain import ChatRequest
from worker.errors import ModelContextExceeded, ModelRateLimited, ModelRefused, ModelUnavailable
from worker.process.runtime import Runtime
from worker.runs.why import why
from worker.store import Database, erasure, summaries, summary_jobs
from worker.summaries import due
from worker.summaries.condense import prompt_hash

Start = Callable[..., Runtime]
DOWN = ModelUnavailable(model="m", reason="test")


def ask_for(db: Database, session_pk: int) -> None:
    """Somebody wants the summary now."""
    with db.write() as tx:
        due.request(tx, session_pk, session_id="s", team="t")


def test_a_version_is_built_on_the_one_before_it(db: Database, process: Start) -> None:
    """The model gets the text so far and the messages behind it; the row says what it covers and how it was made."""
    model = ScriptedModel([formed("one", "a"), formed("two", "b", "c")])
    for n, prompt in enumerate(("first prompt", "second prompt"), start=1):
        session_pk = converse(db, 1, turns=1)
        ask_for(db, session_pk)
        outcome = refresh(process(team(model, prompt)), session_pk, "t")

        assert outcome == "1 new"
        assert jobs(db) == []
        with db.read() as tx:
            summary = summaries.get(tx, session_pk)
        assert summary is not None
        assert (summary.version, summary.covers_through_seq, summary.behind) == (n, 4 * n, 0)
        assert summary.prompt_hash == prompt_hash(prompt)
        assert (summary.model, summary.usage.model_calls) == ("scripted", 1)

    assert [(v.version, v.text, v.topics) for v in versions(db, session_pk)] == [
        (1, "one", ["a"]),
        (2, "two", ["b", "c"]),
    ]
    assert [condensed_messages(request) for request in model.requests] == [["input 0", "result 0.0", "answer 0"]] * 2
    assert "so far" not in model.requests[0].messages[1].content
    assert model.requests[1].messages[1].content.startswith("The summary so far:\n<summary>\none\n</summary>\n\n")
    assert model.requests[1].messages[0].content.startswith("second prompt")


def test_a_delivery_that_comes_twice_does_nothing(db: Database, process: Start) -> None:
    """During the refresh, and after it."""
    door = HeldModel()
    one = process(team(door))
    session_pk = converse(db, 2, due=TWO)
    first = on_thread(lambda: refresh(one, session_pk, "t"))
    door.wait_until_called()

    during = refresh(process(team(door)), session_pk, "t")
    door.answers.append(formed("x"))
    outcome = first.result(20)
    after = refresh(one, session_pk, "t")

    assert (during, outcome, after) == ("nothing to do", "1 new", "nothing to do")
    assert len(door.requests) == 1


def test_a_model_that_fails_is_asked_again_later_and_given_up_in_the_end(db: Database, process: Start) -> None:
    """It waits, longer each time, then is marked as failed; runs go on; whoever asks for it has it made."""
    model = ScriptedModel([DOWN, DOWN, DOWN, formed("at last")])
    one = process(team(model), model_retries=2)
    session_pk = converse(db, 2, due=TWO)

    seen = []
    for _ in range(3):
        outcome = refresh(one, session_pk, "t")
        with db.read() as tx:
            seen.append((outcome, summary_jobs.state(tx, session_pk)))
        assert refresh(one, session_pk, "t") == "nothing to do"
        assert bells(db, "t") == []
        time_passes(db)

    assert [outcome for outcome, _ in seen] == ["failed: model_unavailable"] * 3
    assert [(r.status, r.failures, r.error_code) for _, r in seen if r] == [
        ("waiting", 1, "model_unavailable"),
        ("waiting", 2, "model_unavailable"),
        ("failed", 3, "model_unavailable"),
    ]
    assert (bells(db, "t"), refresh(one, session_pk, "t")) == ([], "nothing to do")
    said = why(db, one.dispatcher, one.settings, look.rows(db)[0].id)
    assert said.facts == {"summary_error_code": "model_unavailable", "summary_again_at": None}
    assert said.detail.endswith("(model_unavailable), and is not retried until a refresh is due or requested.")
    assert finish(db, begin(db, due=TWO), answer()), "a run is accepted, ends, and asks again"
    ask_for(db, session_pk)
    assert refresh(one, session_pk, "t") == "1 new"
    assert (jobs(db), covered(db, session_pk)) == ([], 6)


def test_a_model_is_asked_again_when_it_said_so(db: Database, process: Start) -> None:
    """Retry-After goes before our own waits."""
    later = ModelRateLimited(model="m", reason="test", retry_after_s=7_200.0)
    session_pk = converse(db, 1, due=TWO)

    refresh(process(team(ScriptedModel([later]))), session_pk, "t")

    [job] = jobs(db)
    assert (job.held_until - job.requested_at).total_seconds() >= 7_200


@pytest.mark.parametrize("fault", [ModelRefused(model="m", reason="test"), lambda _: 1 // 0])
def test_what_asking_again_cannot_mend_fails_at_once(db: Database, process: Start, fault: object) -> None:
    """A refusal of the request, a fault in the model: marked as failed, and the slot is free again."""
    one = process(team(ScriptedModel([fault, formed("x")])), summary_slots=1)
    session_pk = converse(db, 1, due=TWO)

    outcome = refresh(one, session_pk, "t")

    assert outcome.startswith("failed: ")
    assert (jobs(db)[0].send_at, jobs(db)[0].lease_owner) == (None, None)
    ask_for(db, session_pk)
    assert refresh(one, session_pk, "t") == "1 new"


USELESS = {
    "a refusal": "I'm sorry, but I can't assist with that request.",
    "a refusal in the form": formed("I'm sorry, but I can't assist with that request."),
    "thoughts": '<think>A draft: {"summary": "wrong", "topics": []}',
    "prose": "Ada likes tea.",
    "another form": json.dumps({"summary": {"text": "Ada"}}),
    "nothing": formed(""),
}


@pytest.mark.parametrize("useless", USELESS.values(), ids=USELESS.keys())
def test_only_a_summary_replaces_the_version_before(db: Database, process: Start, useless: str) -> None:
    """Any other answer is asked for again at once, without the schema, and later; the version before stays."""
    model = ScriptedModel([formed("good"), useless, useless, useless, formed("better")])
    one = process(team(model))
    session_pk = converse(db, 1, due=TWO)
    assert refresh(one, session_pk, "t") == "1 new"
    converse(db, 1, due=TWO)

    outcome = refresh(one, session_pk, "t")

    assert outcome == "failed: summary_unusable"
    assert [bool(request.answer_schema) for request in model.requests[1:]] == [True, False]
    assert [version.text for version in versions(db, session_pk)] == ["good"]
    assert covered(db, session_pk) == 2
    assert jobs(db)[0].error_code == "summary_unusable"
    time_passes(db)
    assert refresh(one, session_pk, "t") == "1 new"
    assert [version.text for version in versions(db, session_pk)] == ["good", "better"]
    assert versions(db, session_pk)[1].model_calls == 2  # the useless answer was paid as well


def test_a_piece_that_is_too_long_for_its_model_is_made_smaller(db: Database, process: Start) -> None:
    """At once, and so are those after it; if the smaller one is too long as well, asking again does not help."""
    sizes: list[int] = []

    def strict(request: ChatRequest) -> str:
        sizes.append(sum(len(message.content) for message in request.messages))
        if sizes[-1] > 6_000:
            raise ModelContextExceeded(model="m", reason="too long", limit=6_000, size=sizes[-1])
        return formed(f"piece {len(sizes)}")

    session_pk = converse(db, 30, due=TWO, turns=12)

    outcome = refresh(process(team(ScriptedModel([strict] * 12))), session_pk, "t")

    assert outcome.endswith(" new")
    assert [size > 6_000 for size in sizes][:3] == [True, False, False]
    assert not any(size > 6_000 for size in sizes[1:])
    assert covered(db, session_pk) == 30 * 26


def test_failures_count_in_a_row(db: Database, process: Start) -> None:
    """A piece that was stored is progress: the next failure is the first again, and not the last."""
    model = ScriptedModel([DOWN, DOWN, formed("one"), DOWN, formed("two")])
    one = process(team(model), model_retries=2, summary_piece_tokens=100)
    session_pk = long_history(db, pieces=2)

    outcomes = []
    for _ in range(4):
        outcomes.append(refresh(one, session_pk, "t"))
        time_passes(db)

    assert outcomes == ["failed: model_unavailable"] * 3 + ["1 new"]
    assert (jobs(db), covered(db, session_pk)) == ([], 4)


def test_a_session_that_is_deleted_in_the_middle_leaves_nothing(db: Database, process: Start) -> None:
    """Its model answers into nothing; neither a version nor a job comes back, and the slot is free."""
    door = HeldModel()
    one = process(team(door), summary_slots=1)
    session_pk = converse(db, 2, due=TWO)
    first = on_thread(lambda: refresh(one, session_pk, "t"))
    door.wait_until_called()

    with db.write() as tx:
        erasure.erase_session(tx, session_pk)
    door.answers.append(formed("too late"))
    outcome = first.result(20)

    assert outcome == "overtaken"
    assert (jobs(db), versions(db, session_pk), bells(db, "t")) == ([], [], [])
    assert refresh(one, session_pk, "t") == "nothing to do"


def test_old_versions_are_kept_as_far_as_the_settings_say(db: Database, process: Start) -> None:
    """The newest ones; the current one among them, with its text."""
    one = process(team(ScriptedModel([formed(str(n)) for n in range(1, 6)])), summary_versions=3)
    for _ in range(5):
        session_pk = converse(db, 1, due=TWO)
        refresh(one, session_pk, "t")

    assert [(v.version, v.text) for v in versions(db, session_pk)] == [(3, "3"), (4, "4"), (5, "5")]


def test_a_team_that_is_not_served_waits(db: Database, process: Start) -> None:
    """A worker without it puts the delivery back, and rings no bell for it; one with it makes the summary."""
    door = HeldModel(answers=[formed("x")])
    session_pk = converse(db, 1, due=TWO)

    outcome = refresh(process(team(door, id="other")), session_pk, "t")
    taken = refresh(process(team(door)), session_pk, "t")
    time_passes(db)

    assert (outcome, taken) == ("not served", "nothing to do")
    assert (bells(db, "other"), bells(db, "other", "t")) == ([], [session_pk])
    assert refresh(process(team(door)), session_pk, "t") == "1 new"


def test_a_process_on_its_way_out_hands_its_refresh_over(db: Database, process: Start) -> None:
    """The call in flight is ended when the grace is over, and the job can be had at once; nothing new is begun."""
    door, other = HeldModel(), HeldModel(answers=[formed("x")])
    one = process(team(door))
    session_pk = converse(db, 1, due=TWO)
    first = on_thread(lambda: refresh(one, session_pk, "t"))
    door.wait_until_called()

    one.keeper.hand_over(grace_s=0)
    outcome = first.result(20)

    assert (outcome, refresh(one, session_pk, "t")) == ("handed over", "stopping")
    assert bells(db, "t") == [session_pk]
    assert refresh(process(team(other)), session_pk, "t") == "1 new"


def test_a_piece_that_is_answered_within_the_grace_is_kept(db: Database, process: Start) -> None:
    """The refresh ends at the boundary between two pieces; another process makes the rest."""
    door, other = HeldModel(), HeldModel(answers=[formed("two")])
    one = process(team(door), summary_piece_tokens=100)
    session_pk = long_history(db, pieces=2)
    first = on_thread(lambda: refresh(one, session_pk, "t"))
    door.wait_until_called()

    one.keeper.hand_over(grace_s=600)
    door.answers.append(formed("one"))
    outcome = first.result(20)
    rest = refresh(process(team(other)), session_pk, "t")

    assert (outcome, rest) == ("handed over", "1 new")
    assert [condensed_messages(request) for request in door.requests + other.requests] == [
        ["input 0", "answer 0"],
        ["input 1", "answer 1"],
    ]


class Killed(BaseException):
    """The process is gone."""


def test_a_long_history_is_condensed_in_pieces_that_are_made_once(db: Database, process: Start) -> None:
    """Two thousand messages; the process dies between two pieces. Another goes on behind the last one that was stored.

    Every message is told once and in order, and no prompt is longer than its piece.
    """
    door, other = HeldModel(), HeldModel(answers=[formed(f"other {n}") for n in range(20)])
    session_pk = converse(db, 50, turns=19)
    ask_for(db, session_pk)
    first = on_thread(lambda: refresh(process(team(door), summary_piece_tokens=1_000), session_pk, "t"))
    for n in range(3):
        door.wait_until_called()
        door.answers.append(formed(f"door {n}"))
    door.wait_until_called()
    door.answers.append(Killed())
    with pytest.raises(Killed):
        first.result(20)

    early = refresh(process(team(other)), session_pk, "t")
    stored = covered(db, session_pk)
    time_passes(db)
    rung = bells(db, "t")
    outcome = refresh(process(team(other)), session_pk, "t")

    assert (session_row(db, session_pk).last_seq, early, rung) == (2_000, "nothing to do", [session_pk])
    assert 0 < stored < 2_000
    made = door.requests[:3] + other.requests
    places = [place for request in made for place in condensed_messages(request)]
    assert places == [
        place for n in range(50) for place in (f"input {n}", *(f"result {n}.{t}" for t in range(19)), f"answer {n}")
    ]
    assert outcome == f"{len(other.requests)} new"
    assert condensed_messages(door.requests[3]) == condensed_messages(other.requests[0]), (
        "what was in flight is asked again, and nothing else"
    )
    assert all(len(r.messages[1].content) <= 4_000 + 400 + 8_000 for r in made)
    assert (covered(db, session_pk), jobs(db)) == (2_000, [])
    assert session_row(db, session_pk).summary_version == len(made)
