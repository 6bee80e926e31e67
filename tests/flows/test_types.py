"""Values of another type than the library takes: a sentence names the argument, and nothing is written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from worker import ScriptedModel, SqliteDb, Team
from worker.errors import InvalidJson, InvalidText, InvalidType, TeamSessionsError
from worker.store.tables import runs, sessions


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """A team of a script, with one session."""
    db = SqliteDb(db_file=tmp_path / "script.db")
    team = Team(id="t", model=ScriptedModel(["Hello."]), db=db)
    team.run("hello", session_id="s", user_id="u")
    yield team
    db.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 7),
        ("name", ["x"]),
        ("description", {"a": 1}),
        ("tags", "abc"),
        ("tags", {"a": 1}),
        ("tags", [1]),
        ("tags", ["a", {}]),
        ("metadata", "text"),
        ("metadata", [1]),
        ("metadata", {"a": {1, 2}}),
        ("metadata", {"a": object()}),
    ],
)
def test_an_update_of_another_type_is_refused(team: Team, field: str, value: Any) -> None:
    """The session stays as it was."""
    session = team.get_session("s", user_id="u")
    assert session is not None

    with pytest.raises((InvalidType, InvalidJson), match=field):
        session.update(**{field: value})

    after = team.get_session("s", user_id="u")
    assert after is not None
    assert (after.name, after.description, after.tags, after.metadata) == (None, None, [], {})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata", "text"),
        ("metadata", [1]),
        ("session_id", 7),
        ("user_id", 7),
        ("user_id", b"u"),
        ("timeout", "soon"),
        ("timeout", True),
        ("not_before", "2030-01-01"),
        ("idempotency_key", 7),
        ("idempotency_key", ""),
        ("idempotency_key", "x" * 256),
    ],
)
def test_an_order_of_another_type_is_refused(team: Team, field: str, value: Any) -> None:
    """No run and no session is written."""
    with pytest.raises(TeamSessionsError, match=field):
        team.enqueue("hello", **{field: value})

    assert count(team) == (1, 1)


@pytest.mark.parametrize("text", [7, b"hello", ["hello"], None])
def test_an_input_of_another_type_is_refused(team: Team, text: Any) -> None:
    """By each way to a run."""
    for order in (team.run, team.enqueue):
        with pytest.raises((InvalidType, InvalidText), match="input"):
            order(text)

    assert count(team) == (1, 1)


@pytest.mark.parametrize("changes", ["abc", [1], 7, {"a": {1}}])
def test_a_state_of_another_type_is_refused(team: Team, changes: Any) -> None:
    """The state stays as it was."""
    with pytest.raises((InvalidType, InvalidJson), match="session_state"):
        team.update_session_state("s", changes, user_id="u")

    assert team.get_session_state("s", user_id="u") == {}


@pytest.mark.parametrize("option", ["id", "name"])
def test_a_name_of_another_type_is_a_mistake_of_the_definition(option: str) -> None:
    """It is said with the others."""
    names: dict[str, Any] = {option: 7}

    with pytest.raises(TeamSessionsError, match=option):
        Team(**names)


def count(team: Team) -> tuple[int, int]:
    """Return how many runs and sessions there are."""
    with team.db.runtime.db.read() as tx:
        tables = (runs, sessions)
        first, second = (tx.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)
    return first, second
