"""A conversation in a terminal, and one from a pipe, with a real worker behind a real API."""

import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from api_stub.client import Client
from tests.support.system import PROGRAM, System, wait_until
from tests.support.terminal import CTRL_C, CTRL_D, PASTED, Terminal

Chat = Callable[..., Terminal]
Pipe = Callable[..., "subprocess.CompletedProcess[str]"]


def session_of(screen: str) -> str:
    """Return the session that a conversation has told at its end."""
    found = re.search(r"Session (\S+)\. Continue with: team-sessions chat ", screen)
    assert found is not None, screen
    return found[1]


def test_a_conversation_remembers_and_can_be_gone_on_with(open_chat: Chat) -> None:
    """The second answer knows the first; so does another terminal, later, with what the first has told at its end."""
    first = open_chat("remembers", "--user", "ada l")
    first.type("Hello, I am Ada.\n")
    hello = first.prompt()
    first.type("What is my name?\n")
    answer = first.prompt()
    first.type(CTRL_D)
    code = first.end()
    session = session_of(first.screen)
    assert first.screen.endswith(f"chat remembers --session {session} --user 'ada l'\n")

    second = open_chat("remembers", "--session", session, "--user", "ada l")
    second.type("What is my name?\n")
    again = second.prompt()
    second.type(CTRL_D)

    assert (code, second.end()) == (0, 0)
    assert hello.endswith("Hello Ada, nice to meet you. I only follow rules; I am no language model.\n> ")
    assert answer.endswith("\nYour name is Ada, as you told me.\n> ")
    assert again.endswith("\nYour name is Ada, as you told me.\n> ")


def test_an_answer_appears_as_it_is_made_and_ctrl_c_cancels_it(running: System, open_chat: Chat) -> None:
    """Within its words, and before the first of them; the conversation goes on, and keeps what was said."""
    chat = open_chat("remembers")
    chat.type("I am Grace. [words=2000] [pace=0.05]\n")
    chat.until("ipsum")
    chat.type(CTRL_C)
    within = chat.prompt()
    chat.type("[delay=60] nothing yet\n")
    wait_until(
        lambda: any(line["user"] == "[delay=60] nothing yet" for line in running.journal()),
        description="the model is asked",
    )
    chat.type(CTRL_C)
    before = chat.prompt()
    chat.type("What is my name?\n")
    answer = chat.prompt()
    chat.type(CTRL_D)
    chat.end()

    assert "[cancelled]\n" in within
    assert "[cancelled]\n" in before
    assert answer.endswith("\nYour name is Grace, as you told me.\n> ")
    with Client(running.url, running.key) as client:
        statuses = {m["run_id"]: client.run(m["run_id"])["status"] for m in client.messages(session_of(chat.screen))}
    assert list(statuses.values()) == ["cancelled", "cancelled", "completed"]


def test_ctrl_c_at_the_prompt_leaves_nothing_and_ends_nothing(open_chat: Chat) -> None:
    """What was typed so far is forgotten; an empty line is none."""
    chat = open_chat("remembers")

    chat.type("I am Mallory.")
    chat.until("I am Mallory.")
    hint = chat.interrupt_until("[Ctrl-D ends the conversation]\n> ")
    chat.type("\n   \nWhat is my name?\n")
    answer = chat.until("You have not told me your name.\n> ")
    chat.type(CTRL_D)

    assert chat.end() == 0
    assert "Mallory" not in hint + answer


def test_tools_and_members_are_told_beside_the_answer(open_chat: Chat, pipe: Pipe) -> None:
    """Each in a short line; what members say among themselves is not the answer."""
    text = "[delegate=a,b] task: [steps=1] [words=3]\n"
    chat = open_chat("leads")
    chat.type(text)
    shown = chat.prompt()
    chat.type(CTRL_D)
    chat.end()
    piped = pipe("chat", "leads", said=text)

    notes = ["[→ a]", "[a: look_up]", "[← a]", "[→ b]", "[b: look_up]", "[← b]"]
    answer = "I only follow rules. Tell me your name, and ask me for it later."
    assert shown.split("\n")[1:] == [*notes, answer, "> "]
    assert piped.stdout == answer + "\n"
    assert piped.stderr.splitlines()[:-1] == notes


def test_what_goes_wrong_is_told_and_the_conversation_goes_on(open_chat: Chat) -> None:
    """A run fails, the next one completes; a session that belongs to another team refuses each."""
    chat, elsewhere = open_chat("with-tool", "--session", "told"), open_chat("plain", "--session", "told")

    chat.type("[steps=13] go\n")
    failed = chat.prompt()
    chat.type("I am Ada.\n")
    completed = chat.prompt()
    elsewhere.type("I am Ada.\n")
    refused = elsewhere.prompt()

    assert re.search(r"Error: Run \S+ is failed: The run reached its limit of 12 turns", failed), failed
    assert "Hello Ada" in completed
    assert "Error: Session 'told' belongs to another team than 'plain'." in refused


def test_lines_from_a_pipe_are_answered_one_after_the_other(pipe: Pipe) -> None:
    """The answers alone stand in the output; the session is told beside it. A byte that is no text harms nobody."""
    done = pipe("chat", "remembers", said="I am Ada. 🦉\udcff\n\nWhat is my name?")

    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == ["Your name is Ada, as you told me."]
    assert ">" not in done.stdout
    assert session_of(done.stderr)


def test_a_pipe_ends_with_the_first_run_that_does_not_complete(pipe: Pipe) -> None:
    """With the exit code 1; what stands behind it is not sent."""
    done = pipe("chat", "with-tool", "--session", "ends", said="[steps=13] go\nI am Ada.\n")

    assert done.returncode == 1
    assert "The run reached its limit of 12 turns" in done.stderr
    assert "Ada" not in done.stdout


@pytest.mark.parametrize("said", ["", "one\ntwo\n"], ids=["nothing typed", "lines"])
def test_an_unknown_team_is_refused_before_anything_is_typed(pipe: Pipe, said: str) -> None:
    """The teams that are served are named."""
    done = pipe("chat", "no-such-team", said=said)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: No worker serves team 'no-such-team'. Live workers serve blocks, charges, ")


@pytest.mark.parametrize("marked", [True, False], ids=["marked by the terminal", "as typed"])
def test_pasted_lines_are_one_message(running: System, open_chat: Chat, marked: bool) -> None:
    """Also with an empty line in it. Enter sends it."""
    chat, text = open_chat("plain"), "I am Ada.\n\n\tThis is my question:\nwho am I?"

    chat.type((PASTED.format(text) if marked else text) + "\n")
    chat.prompt()
    chat.type("And again?\n")
    chat.prompt()
    chat.type(CTRL_D)
    chat.end()

    with Client(running.url, running.key) as client:
        inputs = [m["content"] for m in client.messages(session_of(chat.screen), role="user")]
    assert [line.strip() for line in inputs[0].splitlines()] == [line.strip() for line in text.splitlines()]
    assert inputs[1:] == ["And again?"]


@pytest.mark.extended
def test_a_conversation_that_waits_for_its_model_shows_that_it_lives(open_chat: Chat) -> None:
    """Seconds are counted in a line that the answer replaces; after some, the reason stands above it."""
    chat = open_chat("plain")

    chat.type("[delay=60] hello\n")
    chat.wait_for_raw("[waiting for the answer: ")
    chat.until("[running: ")
    chat.type(CTRL_C)
    chat.until("[cancelled]\n")
    chat.prompt()
    chat.type(CTRL_D)
    chat.end()

    assert "waiting for the answer" not in chat.screen


def test_ctrl_c_ends_a_pipe_and_cancels_its_run(running: System) -> None:
    """Nobody is there to type on."""
    chat = subprocess.Popen(
        [*PROGRAM, "chat", "plain", "--session", "piped"],
        env=dict(os.environ),
        cwd=running.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert chat.stdin is not None
    chat.stdin.write("[delay=60] piped\nnever\n")
    chat.stdin.flush()
    wait_until(
        lambda: any(line["user"] == "[delay=60] piped" for line in running.journal()), description="the model is asked"
    )

    chat.send_signal(signal.SIGINT)
    _, told = chat.communicate(timeout=120)

    with Client(running.url, running.key) as client:
        ids = {m["run_id"] for m in client.messages("piped")}
        assert [client.run(id)["status"] for id in ids] == ["cancelled"]
    assert chat.returncode == 1
    assert "[cancelled]\n" in told


@pytest.mark.parametrize("command", [("chat", "plain"), ("run", "plain", "hello")], ids=lambda c: c[0])
def test_without_an_api_a_command_says_what_to_do(pipe: Pipe, command: tuple[str, ...]) -> None:
    """No traceback: nobody listens, or nothing is known of an API."""
    away = pipe(*command, said="hello\n", TEAM_SESSIONS_URL="http://127.0.0.1:1")
    unknown = pipe(*command, said="hello\n", TEAM_SESSIONS_DATA_DIR="nowhere")

    assert (away.returncode, unknown.returncode) == (1, 1)
    assert away.stderr.startswith("Error: Cannot connect to the API at http://127.0.0.1:1 (after ")
    assert away.stderr.endswith("Is 'team-sessions up' running?\n")
    assert unknown.stderr.startswith("Error: There is no key in 'nowhere/api-key'. Start 'team-sessions up'")


def test_one_run_is_printed_and_its_place_is_told(pipe: Pipe) -> None:
    """`run` prints the same way; as JSON it prints the run and nothing else."""
    plain = pipe("run", "plain", "I am Ada.", "--session", "one", "--user", "u")
    as_json = pipe("run", "plain", "I am Ada.", "--json")

    assert plain.stdout == "Hello Ada, nice to meet you. I only follow rules; I am no language model.\n"
    assert re.fullmatch(r"\(\S+ in session one\)\n", plain.stderr)
    assert as_json.stdout.startswith('{\n  "id": ')
    assert '"status": "completed"' in as_json.stdout
    assert as_json.stderr == ""
