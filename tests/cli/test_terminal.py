"""Whatever a text holds, a terminal gets no control and no direction characters of it; JSON keeps them, escaped."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.hostile_api import COMMANDS, HALF, HOSTILE, JOINERS, PLAIN, serve, unknown
from tests.client.server import Server
from tests.support.system import ROOT
from tests.support.terminal import Terminal
from worker.controls import PATTERN, escaped, visible

# What commands write themselves: dimmed text and its end, the erasing of a line, the cursor around a progress bar.
OWN = re.compile(r"\x1b\[2m|\x1b\[0m|\r\x1b\[K|\x1b\[\?25[lh]|\r(?=\n)")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}
ENVIRONMENT["PYTHONWARNINGS"] = "always::ResourceWarning"


@pytest.fixture(scope="module")
def api() -> Iterator[Server]:
    """The hostile API."""
    with closing(serve()) as server:
        yield server


def program(api: Server, *commands: list[str]) -> list[str]:
    return [sys.executable, "-m", "tests.cli.hostile_api", api.url, *map(json.dumps, commands)]


def test_no_command_passes_control_characters_on_to_a_terminal(api: Server) -> None:
    """Answers in pieces, errors, tables, JSON, reasons, notes; the rest of a text is shown."""
    terminal = Terminal(program(api, *COMMANDS), environment=ENVIRONMENT, directory=ROOT)
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()

    shown = OWN.sub("", terminal.raw)
    assert PATTERN.findall(shown) == []
    assert "Traceback" not in shown
    assert "ResourceWarning" not in shown, "a command left a connection or a file open"
    assert shown.count(PLAIN) > len(COMMANDS)


def test_random_answers_lose_their_control_characters_and_nothing_else(tmp_path: Path) -> None:
    """Sequences that are cut into pieces too."""
    command = [sys.executable, "-m", "tests.cli.random_texts", str(tmp_path / "texts")]
    terminal = Terminal(command, environment=ENVIRONMENT, directory=ROOT)
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()

    texts = json.loads((tmp_path / "texts").read_text())
    expected = "".join(PATTERN.sub("", text) + "\n" for text in texts if text).replace("\ufffd", "")
    shown = terminal.raw.replace("\r\n", "\n")
    assert PATTERN.findall(shown) == []
    assert shown.replace("\ufffd", "") == expected


def test_a_pipe_gets_an_answer_unchanged_and_json_escaped(api: Server) -> None:
    """Programs read it. What is for people, on stderr, goes without control characters everywhere."""

    def piped(*command: str) -> tuple[str, str]:
        done = subprocess.run(program(api, [*command]), env=ENVIRONMENT, cwd=ROOT, capture_output=True, check=False)
        return done.stdout.decode(), done.stderr.decode()

    text, notes = piped("runs", "watch", "r")
    line, _ = piped("sessions", "messages", "s", "--json")

    assert HOSTILE in text
    assert PATTERN.findall(notes) == []
    assert PLAIN in notes
    assert PATTERN.findall(line) == []
    assert json.loads(line)["content"] == HOSTILE


def test_each_character_of_unicode_that_controls_is_known() -> None:
    """A new version of Unicode may add one."""
    known = {"\U000110bd", "\U000110cd"}
    shorthand = {chr(code) for code in (*range(0x13430, 0x13460), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B))}
    assert set(unknown()) - known - shorthand == set()
    assert visible(PLAIN + JOINERS) == PLAIN + JOINERS


def test_what_is_escaped_is_the_same_json() -> None:
    """Also beyond the basic plane, and of a surrogate without its other half."""
    for text in (HOSTILE, HALF, HALF + "x", "\x7f"):
        shown = escaped(json.dumps(text, ensure_ascii=False))

        assert json.loads(shown) == text
        assert PATTERN.findall(shown) == []
