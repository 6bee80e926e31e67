"""What tests of the flows share."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.asking import tools_that_ask
from worker import Team
from worker import settings as configuration
from worker.db import Db
from worker.process.runtime import Runtime, start_in_process
from worker.store import Database


@pytest.fixture
def process(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Runtime]]:
    """Start what a process holds that serves these teams, with these settings: `process(team, summary_slots=2)`.

    Bells are lost in it, and leases end when the test says so: its keeper looks only when it is told to.
    """
    started: list[Runtime] = []

    def start(*teams: Team, **settings: object) -> Runtime:
        for name, value in settings.items():
            monkeypatch.setenv(f"TEAM_SESSIONS_{name.upper()}", str(value))
        runtime = start_in_process(configuration.load(), Database(database_url), None)
        runtime.keeper.close()
        started.append(runtime)
        return replace(runtime, teams={team.id: team.definition for team in teams})

    yield start
    for runtime in started:
        runtime.close()


@pytest.fixture
def script_db(database_url: str) -> Iterator[Db]:
    """A database of a script."""
    db = Db(database_url)
    yield db
    db.close()


@pytest.fixture
def made() -> list[Any]:
    """The effects of the tools, in order."""
    return []


@pytest.fixture
def asking(made: list[Any]) -> list[Any]:
    """One tool of each kind, and one that waits for nothing."""
    return tools_that_ask(made)
