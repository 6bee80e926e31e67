"""`team-sessions runs` and `sessions`: tables for people, JSON for programs, and what can be done with one of them."""

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api_stub.client import Client
from tests.support.system import PROGRAM, System
from tests.support.terminal import Terminal
from worker.cli.table import fitted, format_row

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SAID = "My name is Ada"


@pytest.fixture
def client(running: System) -> Iterator[Client]:
    with Client(running.url, running.key) as made:
        yield made


@pytest.fixture
def user() -> str:
    """A user whom no other test has."""
    return f"u-{uuid.uuid4().hex}"


def told(done: "subprocess.CompletedProcess[str]", *, code: int = 0) -> str:
    """Return what a command printed, once it is seen that it ended as expected."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


def lines(done: "subprocess.CompletedProcess[str]") -> list[Any]:
    """Return the objects of JSON lines."""
    return [json.loads(line) for line in told(done).splitlines()]


def ended(client: Client, user: str, *, session: str = "s1", input: str = SAID, team: str = "plain") -> dict[str, Any]:
    """Return a run of *user* that has ended."""
    return dict(client.wait(client.enqueue(team, input, session_id=session, user_id=user)["id"]))


def test_runs_are_listed_without_what_was_said(client: Client, pipe: Command, user: str) -> None:
    """The newest first, by session, status and team; a table, in a pipe with every word whole, or JSON lines."""
    long = "another-session-with-a-long-name-that-80-columns-do-not-hold"
    first, second = ended(client, user), ended(client, user, session=long)

    table = told(pipe("runs", "list", "--user", user)).splitlines()
    found = lines(pipe("runs", "list", "--user", user, "--json"))

    assert table[0].split() == ["ID", "STATUS", "TEAM", "USER", "SESSION", "AGE"]
    rows = [[r["id"], "completed", "plain", user, r["session_id"]] for r in (second, first)]
    assert [line.split()[:5] for line in table[1:]] == rows
    assert [run["id"] for run in found] == [second["id"], first["id"]]
    assert found[1] == {name: value for name, value in first.items() if name not in ("input", "output")}
    assert SAID not in "\n".join(table) + json.dumps(found)
    assert [run["id"] for run in lines(pipe("runs", "list", "--user", user, "--session", "s1", "--json"))] == [
        first["id"]
    ]
    assert told(pipe("runs", "list", "--user", user, "--status", "failed", "--json")) == ""
    assert told(pipe("runs", "list", "--user", user, "--team", "tools", "--json")) == ""
    assert len(told(pipe("runs", "list", "--user", user, "--limit", "1")).splitlines()) == 2


def test_all_runs_are_listed_page_by_page(client: Client, pipe: Command, user: str) -> None:
    """More than the API gives at once; each once, and the table is one table."""
    accepted = [client.enqueue("plain", "hello", session_id="s1", user_id=user)["id"] for _ in range(230)]

    found = lines(pipe("runs", "list", "--user", user, "--all", "--json"))
    table = told(pipe("runs", "list", "--user", user, "--all")).splitlines()
    client.delete_session("s1", user_id=user)

    assert [run["id"] for run in found] == accepted[::-1]
    assert [line.split()[0] for line in table] == ["ID", *accepted[::-1]]


def test_a_run_is_shown_watched_and_tried_again(client: Client, pipe: Command, user: str) -> None:
    """With its texts, since it is named; its events to people and to programs."""
    run = ended(client, user)

    shown = told(pipe("runs", "show", run["id"]))
    watched = pipe("runs", "watch", run["id"])
    events = lines(pipe("runs", "watch", run["id"], "--json"))
    refused = pipe("runs", "retry", run["id"])

    assert f"\ninput:\n{SAID}\n" in shown
    assert f"\noutput:\n{run['output']}\n" in shown
    assert ["status", "completed"] in [line.split() for line in shown.splitlines()]
    assert json.loads(told(pipe("runs", "show", run["id"], "--json"))) == run
    assert told(watched).strip() == run["output"]
    assert (events[0]["type"], events[-1]["type"], events[-1]["data"]["id"]) == (
        "run.queued",
        "run.completed",
        run["id"],
    )
    assert refused.returncode == 1
    assert "Only a" in refused.stderr
    assert "no run 'run_none'" in pipe("runs", "show", "run_none").stderr


def test_a_run_is_cancelled_and_tried_again(client: Client, pipe: Command, user: str) -> None:
    """The new one stands at the end of its session; watching one that was cancelled ends with code 1."""
    run = client.enqueue("plain", "[delay=30] hello", session_id="s1", user_id=user)

    said = told(pipe("runs", "cancel", run["id"], "--user", user))
    cancelled = client.wait(run["id"])
    again = told(pipe("runs", "retry", run["id"])).strip()
    told(pipe("runs", "cancel", again))

    assert said.startswith(f"{run['id']} is ")
    assert cancelled["status"] == "cancelled"
    assert client.run(again)["retry_of"] == run["id"]
    assert f"Run {run['id']} is cancelled" in pipe("runs", "watch", run["id"]).stderr
    assert pipe("runs", "watch", run["id"]).returncode == 1


def test_sessions_are_listed_without_what_was_said(client: Client, pipe: Command, user: str) -> None:
    """The latest activity first, by team, name and tag."""
    for session in ("s1", "s2"):
        ended(client, user, session=session)
    name = "A name that is much too long for a table of eighty columns"
    client.update_session("s1", name=name.replace("that ", "that\t"), tags=["vip"], user_id=user)

    table = told(pipe("sessions", "list", "--user", user)).splitlines()
    found = lines(pipe("sessions", "list", "--user", user, "--json"))

    assert table[0].split() == ["ID", "TEAM", "USER", "NAME", "RUNS", "MSGS", "SUMMARY", "ACTIVE"]
    assert {line.split()[0] for line in table[1:]} == {"s1", "s2"} == {session["id"] for session in found}
    assert name.replace("that ", "that\ufffd") in "\n".join(table)
    assert SAID not in "\n".join(table) + json.dumps(found)
    assert [s["id"] for s in lines(pipe("sessions", "list", "--user", user, "--tag", "vip", "--json"))] == ["s1"]
    assert told(pipe("sessions", "list", "--user", user, "--team", "tools", "--json")) == ""


def test_a_session_is_shown_read_and_deleted(client: Client, pipe: Command, user: str) -> None:
    """Its messages to people and to programs; it is deleted once somebody has said yes."""
    run = ended(client, user)

    shown = told(pipe("sessions", "show", "s1", "--user", user))
    read = told(pipe("sessions", "messages", "s1", "--user", user))
    messages = lines(pipe("sessions", "messages", "s1", "--user", user, "--role", "assistant", "--json"))
    kept = pipe("sessions", "delete", "s1", "--user", user, said="n\n")
    deleted = told(pipe("sessions", "delete", "s1", "--user", user, "--yes"))

    assert ["message", "count", "2"] in [line.split() for line in shown.splitlines()]
    assert read == f"[1 user {user}] {SAID}\n[2 assistant plain] {run['output']}\n"
    assert [message["content"] for message in messages] == [run["output"]]
    assert kept.returncode == 1
    assert deleted == "Session s1 is deleted.\n"
    assert "There is no session 's1'" in pipe("sessions", "show", "s1", "--user", user).stderr


def test_a_summary_is_asked_for(client: Client, pipe: Command, user: str) -> None:
    """There is none before it is made; a request says what became of it."""
    ended(client, user)

    none = pipe("sessions", "summary", "s1", "--user", user)
    asked = pipe("sessions", "summary", "s1", "--user", user, "--refresh")
    unclear = pipe("sessions", "summary", "s1", "--user", user, "--refresh", "--version", "1")

    assert (none.returncode, asked.returncode, unclear.returncode) == (1, 0, 2)
    assert "has no such summary" in none.stderr
    assert asked.stdout.startswith("A refresh is requested, and waits for a worker. ")


def test_a_session_is_renamed_and_tagged(client: Client, pipe: Command, user: str) -> None:
    """What no option names stays; an empty text clears."""
    ended(client, user)

    def update(*options: str) -> dict[str, Any]:
        session = json.loads(told(pipe("sessions", "update", "s1", "--user", user, "--json", *options)))
        return {name: session[name] for name in ("name", "description", "tags")}

    named = update("--name", "A lost parcel", "--tag", "vip", "--tag", "refund")
    described = update("--description", "It has not come.")
    cleared = update("--name", "", "--tag", "")
    shown = told(pipe("sessions", "update", "s1", "--user", user, "--name", "Again"))
    nothing = pipe("sessions", "update", "s1", "--user", user)

    assert named == {"name": "A lost parcel", "description": None, "tags": ["vip", "refund"]}
    assert described == {**named, "description": "It has not come."}
    assert cleared == {"name": None, "description": "It has not come.", "tags": []}
    assert ["name", "Again"] in [line.split() for line in shown.splitlines()]
    assert (nothing.returncode, "Nothing to change" in nothing.stderr) == (2, True)


def test_many_runs_are_cancelled(client: Client, pipe: Command, user: str) -> None:
    """Counted and confirmed, or with --yes; by options or by ids, which are not mixed."""
    head = client.enqueue("plain", "[delay=60] hello", session_id="s1", user_id=user)["id"]
    behind = [client.enqueue("plain", "hello", session_id="s1", user_id=user)["id"] for _ in range(4)]

    kept = pipe("runs", "cancel", "--user", user, "--status", "queued", said="n\n")
    waiting = {run["id"]: run["reason"] for run in lines(pipe("runs", "list", "--user", user, "--why", "--json"))}
    by_id = told(pipe("runs", "cancel", behind[0], behind[1]))
    printed = lines(pipe("runs", "cancel", "--user", user, "--session", "s1", "--yes", "--json"))
    none = told(pipe("runs", "cancel", "--user", f"{user}-else"))
    alone = json.loads(told(pipe("runs", "cancel", behind[0], "--json")))
    mixed, unclear = pipe("runs", "cancel", head, "--team", "plain"), pipe("runs", "cancel")

    assert (kept.returncode, "Cancel 4 runs?" in kept.stderr or "Cancel 5 runs?" in kept.stderr) == (1, True)
    assert [waiting[run] for run in behind] == ["behind_run"] * 4
    assert by_id == "2 runs cancelled.\n"
    assert {run["id"] for run in printed} == {head, *behind[2:]}
    assert "input" not in printed[0]
    assert (alone["id"], alone["input"]) == (behind[0], "hello")
    assert none == "0 runs cancelled.\n"
    assert client.wait(head, timeout_s=120)["status"] == "cancelled"
    assert {client.run(run)["status"] for run in behind} == {"cancelled"}
    assert (mixed.returncode, unclear.returncode) == (2, 2)
    assert "not both" in mixed.stderr
    assert "Name the runs by their ids" in unclear.stderr


def test_teams_that_are_served_are_listed(client: Client, pipe: Command) -> None:
    """As a table, or as lines of JSON; the short form does the same."""
    table = told(pipe("teams", "list"))

    assert table.splitlines()[0].split() == ["TEAM", "WORKERS", "QUEUES", "VERSIONS"]
    assert [line.split()[0] for line in table.splitlines()[1:]] == [team["team"] for team in client.teams()]
    assert {line.split()[0] for line in told(pipe("teams")).splitlines()} == {
        line.split()[0] for line in table.splitlines()
    }
    assert [team["team"] for team in lines(pipe("teams", "--json"))] == [team["team"] for team in client.teams()]


def test_a_terminal_is_steered_by_no_text(running: System, client: Client, user: str) -> None:
    """Neither by a name in a table nor by a message: what would steer it is shown as a sign."""
    ended(client, user, input="Red: \x1b[31m and a title: \x1b]0;hello\x07")
    client.update_session("s1", name="\x1b[2J", user_id=user)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}

    for command in (("list",), ("messages", "s1")):
        arguments = [*PROGRAM, "sessions", *command, "--user", user]
        terminal = Terminal(arguments, environment=environment, directory=running.directory)
        assert terminal.end() == 0
        assert "\x1b[31m" not in terminal.raw
        assert "\x1b[2J" not in terminal.raw
        assert "\x1b]0" not in terminal.raw
        terminal.close()


def test_what_goes_into_a_file_is_counted_on_the_terminal(running: System, client: Client, user: str) -> None:
    """A bar on stderr, and not where the lines themselves go to the terminal."""
    ended(client, user)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}

    def screen(shell: str) -> str:
        command = ["/bin/sh", "-c", shell.format(program=" ".join(PROGRAM), user=user)]
        terminal = Terminal(command, environment=environment, directory=running.directory)
        assert terminal.end() == 0
        terminal.close()
        return terminal.screen

    into_a_file = [
        screen("{program} runs list --all --json --user {user} > out.jsonl"),
        screen("{program} sessions messages s1 --user {user} > out.txt"),
        screen("{program} users export {user} > out.jsonl"),
    ]
    onto_it = screen("{program} runs list --all --json --user {user}")

    assert ["Runs  [" in into_a_file[0], "Messages  [" in into_a_file[1], "Lines  [" in into_a_file[2]] == [True] * 3
    assert "Runs  [" not in onto_it
    assert '"status": "completed"' in onto_it
    kept = (running.directory / "out.jsonl").read_text().splitlines()
    assert "session" in kept[0]
    assert all(json.loads(line) for line in kept)


def test_a_terminal_shows_ids_whole(running: System, client: Client, user: str) -> None:
    """However narrow it is: a line that does not fit goes on in the next one. Names are cut."""
    run = client.wait(client.enqueue("plain", SAID, user_id=user)["id"])
    client.update_session(run["session_id"], name="A name that is cut on a terminal of 80 columns", user_id=user)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}

    for command, ids in (("runs", [run["id"], run["session_id"], user]), ("sessions", [run["session_id"], user])):
        arguments = [*PROGRAM, command, "list", "--user", user]
        terminal = Terminal(arguments, environment=environment, directory=running.directory)
        assert terminal.end() == 0
        terminal.close()
        assert [each for each in ids if each not in terminal.screen] == []
        assert "of 80 columns" not in terminal.screen


def test_columns_are_narrowed_to_a_width() -> None:
    """The widest first, down to a few letters; those that are to be whole never."""
    row = ("an id of some length", "a team of a long name", "x")
    widths = [len(cell) for cell in row]

    assert fitted(widths, 45, whole=(0,)) == [20, 20, 1]
    assert fitted(widths, 20, whole=(0,)) == [20, 6, 1]
    assert fitted(widths, 20, whole=()) == [7, 8, 1]
    assert fitted(widths, 1, whole=(0, 1, 2)) == widths
    assert format_row(row, [20, 6, 1]) == "an id of some length  a tea…  x"
    assert format_row(("short", "line\nend", ""), [5, 8, 0]) == "short  line\ufffdend"
