"""Decide in the terminal: `run` asks, `pending list` shows, `runs continue` decides."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api_stub.client import Client
from tests.support.system import PROGRAM, System
from tests.support.terminal import Terminal


@pytest.fixture
def client(running: System) -> Iterator[Client]:
    """A client of the API."""
    with Client(running.url, running.key) as client:
        yield client


@pytest.fixture
def typed(running: System) -> Iterator[Callable[..., Terminal]]:
    """Start a command in a terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}
        opened.append(Terminal([*PROGRAM, *arguments], environment=environment, directory=running.directory))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def command(running: System, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=running.directory, capture_output=True, text=True, check=False, **options
    )


def paused(client: Client, *calls: str) -> str:
    run = client.enqueue("waits", " ".join(f"[call={call}]" for call in calls), user_id="ada")
    assert client.wait(run["id"])["status"] == "paused"
    return run["id"]


def test_run_asks_and_goes_on(typed: Callable[..., Terminal]) -> None:
    """Yes to one call, other arguments for the next, a word for the model with a no; then the answer comes."""
    marks = '[call=pay {"eur": 5}] [call=pay {"eur": 7}] [call=pay {"eur": 9}] [call=ship {"order": "8"}]'
    terminal = typed("run", "waits", marks)

    terminal.until("pay(eur=5)? [y]es, [n]o, [e]dit, [l]ater")
    terminal.type("y\r")
    terminal.until("pay(eur=7)?")
    terminal.type("e\r")
    terminal.until("arguments, as JSON")
    terminal.type('{"eur": 1}\r')
    terminal.until("pay(eur=9)?")
    terminal.type("n\r")
    terminal.until("why (for the model)")
    terminal.type("too much\r")
    terminal.until("address (empty: later)")
    terminal.type("Rome\r")
    terminal.until("in session")


def test_later_leaves_the_run_waiting(typed: Callable[..., Terminal], client: Client) -> None:
    """It says how to decide then."""
    terminal = typed("run", "waits", '[call=pay {"eur": 5}]')
    terminal.until("pay(eur=5)?")
    terminal.type("l\r")
    terminal.until("waits for a decision: team-sessions runs continue run_")

    for call in client.pending(team="waits"):
        client.cancel(call["run_id"])


def test_a_command_lists_and_decides(running: System, client: Client) -> None:
    """By the end of a call's id, with results and arguments from files and options."""
    run_id = paused(client, 'pay {"eur": 5}', 'pay {"eur": 6}', 'ship {"order": "7"}', 'measure {"what": "x"}')
    first, second, ship, measure = (call["id"].partition(".")[2] for call in client.run(run_id)["pending"])

    table = command(running, "pending", "list", "--run", run_id).stdout
    lines = command(running, "pending", "list", "--run", run_id, "--json").stdout.splitlines()
    assert "pay(eur=5)" in table
    assert "ship(order='7')" in table
    assert [json.loads(line)["kind"] for line in lines] == ["confirmation", "confirmation", "input", "external"]
    wrong = command(running, "runs", "continue", run_id, "--approve", "9.9")
    assert (wrong.returncode, "no pending call '9.9'" in wrong.stderr) == (1, True)
    nothing = command(running, "runs", "continue", run_id, stdin=subprocess.DEVNULL)
    assert (nothing.returncode, "Say what is decided" in nothing.stderr) == (2, True)
    decided = command(
        running,
        *("runs", "continue", run_id, "--approve", first, "--reject", second, "--note", "no"),
        *("--set", ship, "address=Via Appia 1", "--result", measure, "-", "--approver", "ada"),
        input="3 m\n",
    )
    assert decided.returncode == 0, decided.stderr
    assert client.wait(run_id)["status"] == "completed"
    made = {call["id"].partition(".")[2]: call for call in client.decisions(run_id)["data"]}
    assert {call["approver"] for call in made.values()} == {"ada"}
    assert (made[ship]["answer"], made[measure]["answer"]) == ('{"address": "Via Appia 1"}', "3 m")


def test_all_approves_what_waits_for_a_yes(running: System, client: Client) -> None:
    """And nothing else; a pipe is shown how to decide."""
    run_id = paused(client, 'pay {"eur": 5}', 'pay {"eur": 6}', 'ship {"order": "7"}')

    decided = command(running, "runs", "continue", run_id, "--all", "--json")

    assert decided.returncode == 0, decided.stderr
    assert [call["decision"] for call in client.decisions(run_id)["data"]] == ["approve", "approve", None]
    client.cancel(run_id)


def test_a_users_key_cannot_have_approvals(running: System) -> None:
    """It is refused where it would be made."""
    refused = command(running, "keys", "create", "--name", "k", "--user", "ada", "--scope", "approvals")

    assert refused.returncode == 2
    assert "is for operators" in refused.stderr
