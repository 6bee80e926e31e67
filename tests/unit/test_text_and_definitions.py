"""What is taken from outside, and what is said about it: texts and ids, settings, teams, logs, errors, scripts."""

import asyncio
import json
import logging
import string
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker import errors
from worker.domain import ChatMessage, ChatRequest, check_id, check_input, check_json, check_text, mend
from worker.errors import (
    EmptyInput,
    InputTooLarge,
    InvalidIdentifier,
    InvalidText,
    ModelRateLimited,
    TeamSessionsError,
    TeamsInvalid,
)
from worker.models.scripted import Calls, ScriptedModel
from worker.observe import logs
from worker.settings import Settings, load
from worker.team import Team
from worker.team_module import load_teams

NUL, SURROGATE = "a\x00b", "a\ud800b"
ASKED = ChatRequest((ChatMessage("user", "hello"),))


@pytest.mark.parametrize(("text", "found"), [(NUL, "a NUL character"), (SURROGATE, "a lone surrogate")])
def test_text_that_cannot_be_stored_is_refused_from_callers_and_mended_from_models(text, found):
    """A caller is told what was found and where; a model's text keeps everything else."""
    for check in (
        lambda: check_text(text, field="name"),
        lambda: check_id(text, field="name"),
        lambda: check_json({"name": [text]}, field="name"),
        lambda: check_json({text: 1}, field="name"),
    ):
        with pytest.raises(InvalidText, match=f"name contains {found}"):
            check()
    with pytest.raises(InvalidText, match=f"input contains {found}"):
        check_input(text, limit=100)
    assert mend(text) == "a\ufffdb"


@pytest.mark.parametrize("text", ["plain", "日本語 🎉", "a\tb\n", r"\u0000", r"\\u0000 \ud800"])
def test_all_other_text_is_taken_unchanged(text):
    """Any language, line breaks, and a text that only spells an escape sequence pass."""
    check_json({"text": text}, field="metadata")

    assert check_text(text, field="f") == check_input(text, limit=100) == mend(text) == text


def test_an_id_has_1_to_255_characters_and_no_control_characters():
    """Characters are counted, not bytes; the message gives the length and never the id."""
    assert check_id("é" * 255, field="session_id") == "é" * 255

    for wrong, length in (("", 0), ("x" * 256, 256)):
        with pytest.raises(InvalidIdentifier, match=f"session_id has {length} characters"):
            check_id(wrong, field="session_id")
    with pytest.raises(InvalidText, match="a control character"):
        check_id("a\nb", field="session_id")


def test_an_input_is_not_blank_and_is_measured_in_bytes():
    """The limit counts UTF-8; the error names size, limit and setting."""
    assert check_input("éé", limit=4) == "éé"

    with pytest.raises(InputTooLarge, match=r"has 4 bytes .* limit is 3.* TEAM_SESSIONS_MAX_INPUT_BYTES"):
        check_input("éé", limit=3)
    for blank in ("", " \n\t\u2003"):
        with pytest.raises(EmptyInput):
            check_input(blank, limit=100)


@pytest.mark.parametrize(
    ("options", "id"),
    [({}, "team"), ({"name": "Sales & Support!"}, "sales-support"), ({"name": "团队"}, "团队"), ({"id": "A b"}, "A b")],
)
def test_a_teams_id_is_its_own_or_a_slug_of_its_name(options, id):
    """Runs name a team by its id; the name is for people."""
    team = Team(**options)

    assert team.id == team.definition.id == id
    assert team.name == options.get("name", id)


def test_a_teams_version_changes_with_what_decides_its_answers():
    """The same definition has the same version in every process; a given version stays."""

    def look_up(city: str) -> str:
        """Look a city up."""
        return city

    versions = [
        Team(**options).definition.version
        for options in ({}, {"instructions": "Be kind."}, {"instructions": ["Be brief."]}, {"tools": [look_up]})
    ]

    assert len(set(versions)) == 4
    assert Team().definition.version == versions[0]
    assert Team(instructions="Be kind.", version="7").definition.version == "7"


@pytest.fixture
def settings_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    """Write a module and return the settings that name it."""

    def write(source: str) -> Settings:
        name = f"teams_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text("from worker import Team, tool\n" + source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("TEAM_SESSIONS_TEAMS", name)
        return load()

    return write


def test_every_team_in_the_modules_namespace_is_served(settings_for):
    """A second name of a team is no second team; without a module one plain team is served."""
    assert list(load_teams(load())) == ["team"]

    assert set(load_teams(settings_for("a = Team(id='a')\nagain = a\nb = Team(name='B')\nother = 1"))) == {"a", "b"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("a = Team(id='x' * 256)", "id has 256 characters"),
        ("Team()", "it has no Team in its namespace"),
        ("a = Team(name='Same')\nb = Team(id='same')", "it has two teams of id 'same'"),
        ("def f(x): ...\na = Team(tools=[f])", "Function 'f' cannot be a tool: parameter 'x' has no type"),
    ],
)
def test_a_module_that_cannot_be_served_says_why(settings_for, source, problem):
    """The start fails with one sentence that names the module and its problem."""
    settings = settings_for(source)

    with pytest.raises(TeamsInvalid) as raised:
        load_teams(settings)

    assert repr(settings.teams) in raised.value.message
    assert problem in raised.value.message


@pytest.mark.parametrize("spelled", ["my_app/teams.py", "./my_app/teams", "my_app.teams.py"])
def test_a_file_instead_of_a_module_is_told_how_it_is_spelled(monkeypatch, spelled):
    """Whoever names a path is told the name that an import has."""
    monkeypatch.setenv("TEAM_SESSIONS_TEAMS", spelled)

    with pytest.raises(TeamsInvalid, match=r"name the module as an import does, 'my_app\.teams'"):
        load_teams(load())


@pytest.fixture
def root_logger() -> Iterator[None]:
    """The root logger without handlers; afterwards everything is as before."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:] = before
    root.setLevel(level)
    for name in logs._CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("root_logger")
def test_a_log_line_has_fields_and_not_the_words_of_an_exception(capsys):
    """An exception is named by its type or code and its place: its words may hold message text or a secret."""
    logs.configure("INFO", style="json")
    try:
        raise ValueError("my password is hunter2")
    except ValueError as error:
        logs.get("ours").warning("it failed", run_id="r1", error=error)
        logging.getLogger("theirs").exception("failed: %s", "badly")
    logs.get("ours").error("refused", error=errors.RunNotFound(run_id="hunter2"))
    logs.get("ours").debug("not at this level")
    logging.getLogger("openai").info("a whole request: hunter2")

    printed = capsys.readouterr().err
    ours, theirs, refused = map(json.loads, printed.splitlines())

    assert "hunter2" not in printed
    assert (ours["text"], ours["level"], ours["logger"]) == ("it failed", "WARNING", "ours")
    assert (ours["run_id"], ours["error"]) == ("r1", "ValueError")
    assert ours["at"].startswith("test_text_and_definitions.py:")
    assert (theirs["text"], theirs["error"]) == ("failed: %s", "ValueError")
    assert refused["error"] == "run_not_found"


@pytest.mark.usefixtures("root_logger")
def test_a_readable_log_line_says_the_same(capsys):
    """On a terminal a line is time, level, text and fields, without an exception's words either."""
    logs.configure("INFO", style="readable")

    logs.get("ours").error("it failed", run_id="r1", error=ValueError("hunter2"))

    assert capsys.readouterr().err[9:] == "ERROR   it failed run_id=r1 error=ValueError at=\n"


def _reply(model: ScriptedModel) -> str:
    return asyncio.run(model.reply(ASKED, lambda _: None)).content


def test_a_scripted_model_takes_its_steps_in_order():
    """Texts, calls, errors and functions of the request are steps; what was asked is kept."""
    limited = ModelRateLimited(model="m", reason="slow down", retry_after_s=3.0)
    model = ScriptedModel(["one", Calls(("add", {"a": 1}), content="two"), limited, lambda r: r.messages[0].content])

    assert [_reply(model), _reply(model)] == ["one", "two"]
    with pytest.raises(ModelRateLimited):
        _reply(model)
    assert _reply(model) == "hello"
    assert model.requests == [ASKED] * 4
    model.check_finished()


def test_a_scripted_model_fails_on_unexpected_and_on_unused_steps():
    """A test cannot ask more or less than its script foresees without noticing."""
    model = ScriptedModel(["only"])

    with pytest.raises(AssertionError, match="was asked 0 times, its script has 1"):
        model.check_finished()
    _reply(model)
    with pytest.raises(AssertionError, match="was asked 2 times, its script has 1"):
        _reply(model)


def _tree(cls: type[TeamSessionsError]) -> list[type[TeamSessionsError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in _tree(child))]


def test_every_error_has_a_code_of_its_own_and_stands_in_the_tree():
    """Codes are part of the contract; the tree at the top of the module misses none."""
    every = _tree(TeamSessionsError)

    assert len({cls.code for cls in every}) == len(every) > 20
    assert [cls.__name__ for cls in every if cls.__name__ not in errors.__doc__] == []


@pytest.mark.parametrize("cls", _tree(TeamSessionsError), ids=lambda cls: cls.__name__)
def test_every_errors_message_renders(cls):
    """The docstring's first paragraph is the message, with the facts filled in."""
    parts = list(string.Formatter().parse(errors.first_paragraph(cls)))
    facts = {name: 1.5 if spec else "fact" for _, name, spec, _ in parts if name}

    error = cls(**facts)

    assert "{" not in error.message
    assert all(("1.5" if spec else "fact") in error.message for _, name, spec, _ in parts if name)


def test_a_start_error_names_the_last_place_in_the_users_own_files(settings_for):
    """Of a mistake in a definition, and of an error somewhere below the module; without the path."""
    below = "def fail():\n    import json\n    json.loads('{')\n\nfail()"
    wrong = "a = 1\nb = Team(modle='x')"

    with pytest.raises(TeamsInvalid) as first:
        load_teams(settings := settings_for(below))
    sys.modules.pop(str(settings.teams), None)
    with pytest.raises(TeamsInvalid) as second:
        load_teams(settings_for(wrong))

    assert f"({settings.teams}.py:4)" in first.value.message
    assert f"({settings.teams}.py:3)" in second.value.message
    assert "/" not in first.value.message.partition("JSONDecodeError")[2]
