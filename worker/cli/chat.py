"""`team-sessions chat`: a conversation in the terminal. Each line is an input, and its answer appears as it is made."""

import importlib
import io
import shlex
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress

import click

from api_stub.client import Client, Run
from worker.cli.answer import Answer, require_completed
from worker.cli.connection import connect, errors_told


@click.command()
@click.argument("team")
@click.option("--session", "session_id", help="Continue this session; without, a new one.")
@click.option("--user", "user_id", help="The user who speaks.")
def chat(team: str, session_id: str | None, user_id: str | None) -> None:
    """Talk with TEAM.

    Ctrl-C cancels the answer that is being made, Ctrl-D ends the conversation; the session stays. From a pipe, each
    line is an input, and the first run that does not complete ends it.

    \b
        team-sessions chat team --session s1
        printf 'I am Ada.\\nWho am I?\\n' | team-sessions chat team
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a byte that is no text is no reason to end
    with connect() as client:
        talk = Talk(client, team=team, session_id=session_id, user_id=user_id)
        try:
            if sys.stdin.isatty() and sys.stdout.isatty():
                _converse(talk)
            else:
                for line in sys.stdin:
                    if line.strip():
                        talk.say(line.rstrip("\n"))
        finally:
            talk.tell_the_way_back()


class Talk:
    """One session, spoken to from here."""

    def __init__(self, client: Client, *, team: str, session_id: str | None, user_id: str | None) -> None:
        self._client = client
        self._team = team
        self._session_id = session_id
        self._user_id = user_id
        self._accepted = False

    def say(self, text: str) -> None:
        """Enqueue a run and print its answer. Ctrl-C cancels the run.

        Raises:
            click.ClickException: the run failed, or was cancelled by somebody else.
            KeyboardInterrupt: it was cancelled from here.
        """
        key, session_id, answer = uuid.uuid4().hex, self._session_id, Answer()
        try:
            run = self._enqueue(text, session_id=session_id, key=key)
            require_completed(answer.show(self._client.stream(run["id"])))
        except KeyboardInterrupt:
            # How far it came is not known. Under its key the order finds its run, or becomes one that is cancelled.
            run = self._enqueue(text, session_id=session_id, key=key)
            self._client.cancel(run["id"])
            ended = answer.run or answer.show(self._client.stream(run["id"], after=answer.last_id))
            click.secho(f"[{ended['status']}]", dim=True, err=True)
            raise

    def tell_the_way_back(self) -> None:
        """Say which session it was, and how to come back to it."""
        if self._accepted and self._session_id is not None:
            user = f" --user {shlex.quote(self._user_id)}" if self._user_id else ""
            command = f"team-sessions chat {shlex.quote(self._team)} --session {shlex.quote(self._session_id)}{user}"
            click.secho(f"Session {self._session_id}. Go on with: {command}", dim=True, err=True)

    def _enqueue(self, text: str, *, session_id: str | None, key: str) -> Run:
        run = self._client.enqueue(self._team, text, session_id=session_id, user_id=self._user_id, idempotency_key=key)
        self._session_id, self._accepted = run["session_id"], True
        return run


def _converse(talk: Talk) -> None:
    """Ask for a line and have it answered, until Ctrl-D. What goes wrong is told, and the conversation goes on."""
    for line in _typed():
        try:
            with errors_told():
                talk.say(line)
        except click.ClickException as error:
            error.show()
        except KeyboardInterrupt:
            continue


def _typed() -> Iterator[str]:
    with suppress(ImportError):
        importlib.import_module("readline")  # `input` edits its line with it, and remembers those before
    while True:
        try:
            line = input("> ")
        except KeyboardInterrupt:
            click.echo()
            click.secho("[Ctrl-D ends the conversation]", dim=True, err=True)
            continue
        except EOFError:
            click.echo()
            return
        if line.strip():
            yield line
