"""Print a run as it happens: the leader's text to stdout; tool calls, delegations and problems, dimmed, to stderr.

A terminal gets the text without control characters, so an answer cannot control the terminal. A pipe or a file gets the
text unchanged.
"""

from collections.abc import Iterable
from typing import cast

import click

from api_stub.client import Event, Run
from worker.cli.output import terminal_safe, without_controls

DELEGATES = "delegate_task_to_member"  # not shown as a tool call: delegation.started shows it


class Answer:
    """Prints the answer of one run. `last_id`: ID of the last event. `run`: the run, once it has ended."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.run: Run | None = None
        self._completed: set[str] = set()
        self._message_id = ""
        self._printed = ""  # text of that message that was printed

    def show(self, events: Iterable[Event]) -> Run:
        """Print events up to the end of the run, and return the run."""
        for event in events:
            self._print_event(event)
            self.last_id = event.id
        assert self.run is not None, "a stream ends with the run"
        return self.run

    def _print_event(self, event: Event) -> None:
        data = event.data
        if event.type == "message.delta" and data["delegation"] is None:
            if data["message_id"] != self._message_id:
                self._end_line()
                self._message_id = data["message_id"]
            self._print(data["delta"])
        elif event.type == "message.completed" and data["role"] == "assistant" and data["delegation"] is None:
            if data["message_id"] not in self._completed:  # it can come twice, with the same content
                self._completed.add(data["message_id"])
                self._complete(data["content"])
        elif event.type == "message.restarted" and data["message_id"] == self._message_id and self._printed:
            self._note("the worker was lost; another one continues")
        elif event.type == "tool_call.started" and data["name"] != DELEGATES:
            self._note(f"{data['author']}: {data['name']}" if data["delegation"] else data["name"])
        elif event.type == "delegation.started":
            self._note(f"→ {data['member']}")
        elif event.type == "delegation.completed":
            self._note(f"← {data['member']}")
        elif event.type == "run.requeued":
            self._note(f"waits until {data['not_before']}: {data['reason']}")
        elif event.terminal:
            self._end_line()
            self.run = cast(Run, data)

    def _complete(self, content: str) -> None:
        """Print the rest of a message, or all of it if its beginning differs from the printed text."""
        if not content.startswith(self._printed):
            self._end_line()
        self._print(content[len(self._printed) :])
        self._end_line()

    def _print(self, text: str) -> None:
        self._printed += text
        # Without color=True click removes escape sequences when it writes into a pipe.
        click.echo(terminal_safe(text), nl=False, color=True)

    def _end_line(self) -> None:
        if self._printed:
            click.echo()
        self._printed = ""

    def _note(self, text: str) -> None:
        self._end_line()
        click.secho(f"[{without_controls(text)}]", dim=True, err=True)


def require_completed(run: Run) -> None:
    """Raise click.ClickException if the run did not complete. The message says how it ended."""
    if run["status"] != "completed":
        reason = f": {run['error']['message']}" if run["error"] else "."
        raise click.ClickException(f"Run {run['id']} is {run['status']}{reason}")
