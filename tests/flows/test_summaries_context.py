"""What a run sees of its session's past: the summary and all behind it, or, where that is too much, what is missing."""

from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.condensing import answer, begin, called, converse, cover, finish
from worker import Team
from worker.domain import CHARS_PER_TOKEN, Claim, Draft, Role, Status, open_calls
from worker.loop.conversation import History
from worker.runs.session_history import SessionHistory
from worker.store import Database
from worker.store.tables import runs

PLENTY = 1_000_000


def past(db: Database, claim: Claim, *, tokens: int = PLENTY, **options: Any) -> History:
    """Return what a run of a team with these options sees."""
    definition = Team(
        id="t", **{"enable_session_summaries": True, "add_history_to_context": True, **options}
    ).definition
    return SessionHistory(db, claim).history(definition, context_tokens=tokens)


def seqs(history: History) -> list[int]:
    """Return the places of the messages that are shown."""
    return [message.seq for message in history.messages]


def check_whole(history: History) -> None:
    """Assert that messages stand in order and once, and that each call has its results right behind it."""
    assert all(a < b for a, b in pairwise(seqs(history)))
    shown = history.messages
    for place, message in enumerate(shown):
        if message.role is Role.TOOL:
            asking = next(m for m in reversed(shown[:place]) if m.role is Role.ASSISTANT)
            assert message.tool_call_id in {call.id for call in asking.tool_calls}
    assert not open_calls(list(shown))


@pytest.mark.parametrize(("position", "first"), [(1, 1), (2, 1), (3, 1), (4, 3), (5, 5), (6, 7)])
def test_all_behind_the_summary_is_shown_and_the_last_runs_it_covers(db: Database, position: int, first: int) -> None:
    """No gap: from the summary's last message on, everything; and the last three runs before it too."""
    session_pk = converse(db, 6)
    cover(db, session_pk, seq=2 * position, position=position)

    seen = past(db, begin(db))

    assert (seen.summary, seen.covers_through_seq, seen.missing) == ("so far", 2 * position, None)
    assert seqs(seen) == list(range(first, 13))
    check_whole(seen)


@pytest.mark.parametrize(
    ("options", "shown", "missing"),
    [
        ({"add_history_to_context": False}, 0, (5, 12)),
        ({"add_history_to_context": False, "num_history_runs": 3}, 0, (5, 12)),
        ({"num_history_runs": 0}, 0, (5, 12)),
        ({"num_history_runs": 1}, 2, (5, 10)),
        ({"num_history_runs": 3}, 6, (5, 6)),
        ({"num_history_runs": 4}, 8, None),
        ({"num_history_runs": 5}, 10, None),
        ({"num_history_runs": 99}, 12, None),
        ({"num_history_messages": 3}, 2, (5, 10)),
        ({"num_history_messages": 8}, 8, None),
    ],
)
def test_a_number_of_runs_means_what_it_says(
    db: Database, options: dict[str, Any], shown: int, missing: tuple[int, int] | None
) -> None:
    """So many and no more, beside the summary; and the line says what neither of them holds."""
    session_pk = converse(db, 6)
    cover(db, session_pk, seq=4, position=2)

    seen = past(db, begin(db), **options)

    assert seen.summary == "so far"
    assert seqs(seen) == list(range(13 - shown, 13))
    assert seen.missing == missing
    assert missing is None or not seen.for_size
    check_whole(seen)


@pytest.mark.parametrize(
    ("options", "shown", "missing"),
    [
        ({"add_history_to_context": False}, 0, None),
        ({"num_history_runs": 2}, 4, (1, 6)),
        ({"num_history_messages": 2}, 2, (1, 8)),
    ],
)
def test_a_number_of_runs_means_it_before_the_first_summary_too(
    db: Database, options: dict[str, Any], shown: int, missing: tuple[int, int] | None
) -> None:
    """A team that wants no history gets none, and nothing is said of what it did not ask for."""
    converse(db, 5)

    seen = past(db, begin(db), **options)

    assert (seen.summary, seqs(seen), seen.missing) == ("", list(range(11 - shown, 11)), missing)


def test_a_summary_that_ends_inside_a_run_leaves_its_rest(db: Database) -> None:
    """What follows begins behind a result; or, with the last runs, where that run begins."""
    claim = begin(db, "first")
    finish(db, claim, *called("a"), answer())
    finish(db, begin(db, "second"), *called("b"), *called("c", "d"), answer())
    cover(db, claim.session_pk, seq=7, position=2)

    reader = begin(db)
    whole, last = past(db, reader), past(db, reader, num_history_runs=1)

    assert seqs(whole) == list(range(1, 12))
    assert seqs(last) == list(range(5, 12))
    check_whole(whole)


def test_before_the_first_summary_everything_is_shown(db: Database) -> None:
    """Where a team has summaries made, nothing is lost until there is one."""
    converse(db, 5)

    seen = past(db, begin(db))

    assert (seen.summary, seqs(seen), seen.missing) == ("", list(range(1, 11)), None)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"add_history_to_context": True, "num_history_runs": 2}, [7, 8, 9, 10]),
        ({"add_history_to_context": True, "num_history_messages": 3}, [9, 10]),
        ({"add_history_to_context": False}, []),
    ],
)
def test_without_the_summary_exactly_the_last_runs_are_shown(
    db: Database, options: dict[str, Any], wanted: list[int]
) -> None:
    """Whether one was made or not."""
    session_pk = converse(db, 5)
    cover(db, session_pk, seq=4, position=2)

    seen = past(db, begin(db), add_session_summary_to_context=False, **options)

    assert (seen.summary, seqs(seen), seen.missing) == ("", wanted, None)


@pytest.mark.parametrize("covers", [0, 5, 8, 10])
def test_what_does_not_fit_is_named_and_nothing_is_torn(db: Database, covers: int) -> None:
    """For each budget: the newest whole runs that fit, from an input on, and the line says from where to where."""
    claim = begin(db, "one")
    finish(db, claim, *called("aa", "bb"), answer("1"))  # 1 to 5
    finish(db, begin(db, "two"), *called("cc"), answer("2"))  # 6 to 9
    finish(db, begin(db, "three"), answer("3"))  # 10 to 11
    if covers:
        cover(db, claim.session_pk, seq=covers, position={5: 1, 8: 2, 10: 3}[covers])
    reader = begin(db)
    whole = past(db, reader)
    shown_with = set()

    for tokens in range(1, 60):
        seen = past(db, reader, tokens=tokens)

        check_whole(seen)
        assert seqs(whole)[len(seqs(whole)) - len(seqs(seen)) :] == seqs(seen)
        begins = seqs(seen)[0] if seen.messages else 12
        assert seen.messages == whole.messages or not seen.messages or seen.messages[0].role is Role.USER
        assert seen.missing == ((covers + 1, begins - 1) if begins > covers + 1 else None)
        said = sum(len(m.content) for m in seen.messages)
        assert said + len(seen.summary) <= max(tokens * CHARS_PER_TOKEN, len(seen.summary) + 1)
        shown_with.add(begins)

    assert whole.missing is None
    assert len(shown_with) > 1, "some budgets cut, and some do not"
    assert begins == seqs(whole)[0]


def test_more_messages_than_one_context_reads_are_named(db: Database) -> None:
    """A thousand are looked at; what is left out before them is not passed over in silence."""
    converse(db, 30, turns=20)

    seen = past(db, begin(db))

    assert seen.missing is not None
    assert seen.missing[0] == 1
    assert seen.missing[1] == seqs(seen)[0] - 1
    assert seen.messages[0].role is Role.USER
    assert seqs(seen)[-1] == 30 * 42
    check_whole(seen)


def test_what_was_rolled_back_or_belongs_to_members_is_not_shown(db: Database) -> None:
    """Nor does a rolled-back run count as one of the last."""
    converse(db, 2)
    claim = begin(db, "rolled back")
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == claim.run_id).values(excluded=True))
    finish(db, claim, answer("rolled back"), status=Status.CANCELLED)
    finish(db, begin(db, "asked"), Draft(Role.ASSISTANT, "m", "of a member", delegation="d"), answer("said"))
    cover(db, claim.session_pk, seq=6, position=3)

    seen = past(db, begin(db, "now"))

    assert [m.content for m in seen.messages] == ["input 0", "answer 0", "input 1", "answer 1", "asked", "said"]
