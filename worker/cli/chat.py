"""`team-sessions chat`: a conversation in the terminal. Each message is one run, whose answer is streamed."""

import shlex
import sys
import uuid

import click

from api_stub.client import Client, RequestFailed, Run
from worker.cli import typed
from worker.cli.answer import Answer, require_completed, show_aside
from worker.cli.connection import client_errors_shown, connect
from worker.cli.decisions import ask, can_ask
from worker.cli.terminal import echo

MAX_NAMES = 5  # in one sentence


@click.command()
@click.argument("team")
@click.option("--session", "session_id", help="Continue this session. Default: a new one.")
@click.option("--user", "user_id", help="The user that the runs are for.")
def chat(team: str, session_id: str | None, user_id: str | None) -> None:
    """Talk with TEAM.

    Enter sends a message; pasted lines are one message. Ctrl-C cancels the current answer, Ctrl-D ends the
    conversation; the session is kept. It asks about calls that wait for a decision. If nothing happens for five
    seconds, it says why. From a pipe, each line is one input, and the first run that does not complete ends the
    conversation.

    \b
        team-sessions chat team --session s1
        printf 'I am Ada.\\nWho am I?\\n' | team-sessions chat team
    """
    with connect() as client:
        _check_team(client, team)
        conversation = Conversation(client, team=team, session_id=session_id, user_id=user_id)
        try:
            if sys.stdin.isatty() and sys.stdout.isatty():
                _converse(conversation)
            else:
                for line in typed.piped_lines():
                    conversation.send(line)
        finally:
            conversation.print_how_to_continue()


class Conversation:
    """One session, with a run for each input."""

    def __init__(self, client: Client, *, team: str, session_id: str | None, user_id: str | None) -> None:
        self._client = client
        self._team = team
        self._session_id = session_id
        self._user_id = user_id
        self._accepted = False

    def send(self, text: str) -> None:
        """Enqueue a run and print its answer. Ctrl-C cancels the run.

        Raises:
            click.ClickException: the run failed, or was cancelled elsewhere.
            KeyboardInterrupt: Ctrl-C cancelled it.
        """
        key, session_id, answer = uuid.uuid4().hex, self._session_id, Answer(ask=ask if can_ask() else None)
        try:
            run = self._enqueue(text, session_id=session_id, key=key)
            require_completed(answer.follow(self._client, run["id"]))
        except KeyboardInterrupt:
            # The run may or may not be accepted. Enqueueing with the same key finds it, or makes one to cancel.
            run = self._enqueue(text, session_id=session_id, key=key)
            self._client.cancel(run["id"])
            ended = answer.run or answer.follow(self._client, run["id"])
            show_aside(ended["status"])
            raise

    def print_how_to_continue(self) -> None:
        """Print the session's id and the command that continues it."""
        if self._accepted and self._session_id is not None:
            user = f" --user {shlex.quote(self._user_id)}" if self._user_id else ""
            command = f"team-sessions chat {shlex.quote(self._team)} --session {shlex.quote(self._session_id)}{user}"
            echo(f"Session {self._session_id}. Continue with: {command}", dim=True, err=True)

    def _enqueue(self, text: str, *, session_id: str | None, key: str) -> Run:
        run = self._client.enqueue(self._team, text, session_id=session_id, user_id=self._user_id, idempotency_key=key)
        self._session_id, self._accepted = run["session_id"], True
        return run


def _check_team(client: Client, team: str) -> None:
    """Raise click.ClickException if no worker serves the team and it has no session: most likely a typing error."""
    try:
        live = [each["team"] for each in client.teams()]
        if team in live or next(client.sessions(team=team), None) is not None:
            return
    except RequestFailed:  # a key that may not list sessions; the first message will tell
        return
    names = ", ".join(live[:MAX_NAMES]) + (", …" if len(live) > MAX_NAMES else "")
    served = f"Live workers serve {names}." if live else "No worker is live."
    raise click.ClickException(f"No worker serves team {team!r}. {served} Check the name, or start a worker with it.")


def _converse(conversation: Conversation) -> None:
    """Send each message that is typed, until Ctrl-D. An error is printed, and does not end the conversation."""
    for message in typed.messages():
        try:
            with client_errors_shown():
                conversation.send(message)
        except click.ClickException as error:
            error.show()
        except KeyboardInterrupt:
            continue
