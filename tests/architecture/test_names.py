"""The page of names that are shared with Agno has a row for each of them, and says which were measured."""

import importlib
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from ops.bench import names
from ops.bench.peers import environment
from worker import SessionSummaryManager, Team
from worker.session import Session

SEED = {  # what Agno's page on team sessions has: here it keeps its name
    *("Team(model=)", "Team(members=)", "Team(db=)", "SqliteDb(db_file=)", "OpenAIChat(id=)"),
    *("Team.run()", "Team.run(user_id=)", "Team.run(session_id=)", "Team.get_session()", "Team.get_all_sessions()"),
    *("session.update()", "Team.delete_session()", "Team.get_messages_for_session()", "Team.get_chat_history()"),
    *("Team(enable_session_summaries=)", "Team(session_summary_manager=)", "Team(session_summary_prompt=)"),
    *("SessionSummaryManager(model=)", "SessionSummaryManager(session_summary_prompt=)"),
    *("Team(add_history_to_context=)", "Team(num_history_runs=)", "Team(read_chat_history=)", "get_chat_history"),
    *("Team(read_tool_call_history=)", "get_tool_call_history"),
}
SOURCES = {"yes", "read in its source", "not tried"}


def parameters(function: object, spelled: str) -> set[str]:
    """The parameters that are given by name, as the page spells them."""
    by_name = inspect.signature(function).parameters.values()  # type: ignore[arg-type]  # a class is callable
    return {f"{spelled}({p.name}=)" for p in by_name if p.kind is p.KEYWORD_ONLY}


def methods(cls: type, spelled: str) -> set[str]:
    """The public methods of a class, as the page spells them."""
    return {f"{spelled}.{name}()" for name, _ in inspect.getmembers(cls, inspect.isfunction) if name[0] != "_"}


def test_the_page_has_a_row_for_each_name_and_no_other() -> None:
    """Whoever adds an option or a method adds its row: what it does here, and what Agno does. None is ever dropped."""
    manager = {f"SessionSummaryManager({field.name}=)" for field in fields(SessionSummaryManager)}
    options = parameters(Team, "Team") | parameters(Team.run, "Team.run")
    ours = methods(Team, "Team") | methods(Session, "session") | options | manager

    written = [name for row in names.rows() for name in row.names]

    # The seed's names are ours too, but for what stands on other classes, or is a tool that a model sees.
    assert sorted(SEED - ours) == ["OpenAIChat(id=)", "SqliteDb(db_file=)", "get_chat_history", "get_tool_call_history"]
    assert {"without a row": sorted((ours | SEED) - set(written))} == {"without a row": []}
    assert {"not ours": sorted(set(written) - ours - SEED)} == {"not ours": []}
    assert len(written) == len(set(written))


def test_a_row_is_measured_exactly_where_there_is_an_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word "measured" is not written by hand alone; an experiment about what only Agno has needs no row."""
    monkeypatch.syspath_prepend(Path(environment.__file__).parent)
    experiments = set(importlib.import_module("names_summaries").experiments)

    said = {row.names: row.measured for row in names.rows()}

    assert set(said.values()) <= SOURCES
    assert {row for row, how in said.items() if how == "yes"} == {row for row in said if row & experiments}


def test_the_page_names_the_release_that_is_measured() -> None:
    """A newer lock needs a new measurement."""
    assert f"| Agno {environment.version('agno')} |" in names.PAGE.read_text()
