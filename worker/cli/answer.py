"""Print a run as it happens: the leader's words to stdout; tools, delegations and troubles, dimmed, to stderr.

What a model says goes to a terminal without control characters, so that an answer cannot steer it. Into a pipe or a
file it goes as it is.
"""

import sys
from collections.abc import Iterable
from typing import cast

import click

from api_stub.client import Event, Run

DELEGATES = "delegate_task_to_member"  # its calls are told by delegation.started
_CONTROL = {n: "\ufffd" for n in (*range(0x20), *range(0x7F, 0xA0)) if chr(n) not in "\n\t"} | {ord("\r"): None}


class Answer:
    """The answer of one run, as it is printed. `last_id`: where to go on. `run`: the run, once it has ended."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.run: Run | None = None
        self._completed: set[str] = set()
        self._message_id = ""
        self._said = ""  # so much of that message

    def show(self, events: Iterable[Event]) -> Run:
        """Print what happens, up to the end of the run, and return the run."""
        for event in events:
            self._tell(event)
            self.last_id = event.id
        assert self.run is not None, "a stream ends with the run"
        return self.run

    def _tell(self, event: Event) -> None:
        data = event.data
        if event.type == "message.delta" and data["delegation"] is None:
            if data["message_id"] != self._message_id:
                self._break_off()
                self._message_id = data["message_id"]
            self._say(data["delta"])
        elif event.type == "message.completed" and data["role"] == "assistant" and data["delegation"] is None:
            if data["message_id"] not in self._completed:  # told again, where its stream was lost
                self._completed.add(data["message_id"])
                self._complete(data["content"])
        elif event.type == "message.restarted" and data["message_id"] == self._message_id and self._said:
            self._note("the worker was lost; another one goes on")
        elif event.type == "tool_call.started" and data["name"] != DELEGATES:
            self._note(f"{data['author']}: {data['name']}" if data["delegation"] else data["name"])
        elif event.type == "delegation.started":
            self._note(f"→ {data['member']}")
        elif event.type == "delegation.completed":
            self._note(f"← {data['member']}")
        elif event.type == "run.requeued":
            self._note(f"waits until {data['not_before']}: {data['reason']}")
        elif event.terminal:
            self._break_off()
            self.run = cast(Run, data)

    def _complete(self, content: str) -> None:
        """The whole text replaces what was said of it: the rest of it, or all, where that is something else."""
        if not content.startswith(self._said):
            self._break_off()
        self._say(content[len(self._said) :])
        self._break_off()

    def _say(self, text: str) -> None:
        self._said += text
        # Into a pipe click would leave escape sequences out, unless it is told that they are meant.
        click.echo(shown(text), nl=False, color=True)

    def _break_off(self) -> None:
        if self._said:
            click.echo()
        self._said = ""

    def _note(self, text: str) -> None:
        self._break_off()
        click.secho(f"[{text.translate(_CONTROL)}]", dim=True, err=True)


def shown(text: str) -> str:
    """Return *text* as it may be written to stdout: to a terminal without what would steer it."""
    return text.translate(_CONTROL) if sys.stdout.isatty() else text


def require_completed(run: Run) -> None:
    """Say how a run ended, unless it is completed.

    Raises:
        click.ClickException
    """
    if run["status"] != "completed":
        reason = f": {run['error']['message']}" if run["error"] else "."
        raise click.ClickException(f"Run {run['id']} is {run['status']}{reason}")
