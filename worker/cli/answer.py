"""Print a run as it happens: the leader's text to stdout; tool calls, delegations and problems, dimmed, to stderr.

A terminal gets the text without control characters (`terminal`), a pipe or a file gets it unchanged.
"""

import math
import os
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, cast

import click

from api_stub.client import Client, Event, Run
from worker import clock
from worker.cli.silence import explained
from worker.cli.terminal import ERASE_LINE, control, echo

PAUSES = {  # why a run waits, by the code of its error; events of other codes show the code
    "model_rate_limited": "the model answers 429",
    "model_busy": "TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT is reached",
    "model_unavailable": "the model cannot be reached, or its server fails",
    "model_silent": "the model sends nothing",
    "model_no_answer": "something else answers in place of the model",
    "model_stream_broken": "the model's answer broke off",
}
PAUSED = 3  # the exit code of a command whose run waits for a decision
DELEGATES = "delegate_task_to_member"  # not shown as a tool call: delegation.started shows it


class Answer:
    """Prints the answer of one run. `last_id`: ID of the last event. `run`: the run, once it has ended.

    *ask* asks a person about calls that wait for a decision, and says whether the run goes on.
    """

    def __init__(self, *, ask: Callable[..., bool] | None = None) -> None:
        self._ask = ask
        self.last_id: str | None = None
        self.run: Run | None = None
        self._completed: set[str] = set()
        self._message_id = ""
        self._printed = ""  # text of that message that was printed
        self._counts = False  # whether the line of `count` is on the screen
        self._lock = threading.Lock()

    def follow(self, client: Client, run_id: str, *, user_id: str | None = None) -> Run:
        """Print a run's events after `last_id` up to its end, and return the run. Say why if it does not move.

        A run that goes on waiting for a decision is returned as it is.
        """
        while True:
            run = self._follow(client, run_id, user_id=user_id)
            if run is not None:
                return run
            assert self._ask is not None
            if not self._ask(client, run_id, user_id=user_id):
                return client.run(run_id, user_id=user_id)

    def _follow(self, client: Client, run_id: str, *, user_id: str | None) -> Run | None:
        events = client.stream(run_id, after=self.last_id, user_id=user_id)
        try:
            with explained(events, run_id, user_id=user_id, explain=self.explain, count=self.count) as arriving:
                return self.show(arriving)
        finally:
            self._erase_count()

    def show(self, events: Iterable[Event]) -> Run | None:
        """Print events up to the end of the run, and return the run; None: it waits for a decision."""
        for event in events:
            with self._lock:
                self._erase_count()
                self._print_event(event)
            self.last_id = event.id
            if event.type == "run.paused" and self._ask is not None:
                return None
        assert self.run is not None, "a stream ends with the run"
        return self.run

    def explain(self, reason: str) -> None:
        """Print why nothing happens. A message that is begun continues below."""
        with self._lock:
            self._erase_count()
            if self._printed and sys.stdout.isatty():
                echo("", err=True)
            show_aside(reason)

    def count(self, seconds: float) -> None:
        """Show on a terminal how long nothing has happened, in a line that the next output replaces."""
        with self._lock:
            if not self._printed and _is_terminal():
                self._counts = True
                control(ERASE_LINE, err=True)
                echo(f"[waiting for the answer: {seconds:.0f} s]", dim=True, err=True, nl=False)

    def _erase_count(self) -> None:
        if self._counts:
            control(ERASE_LINE, err=True)
        self._counts = False

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
        elif event.type == "tool_call.progress":
            self._note(f"{data['name']}: {data['progress']}")
        elif event.type == "tool_call.completed" and data.get("failed"):
            self._note(f"{data['name']} failed")
        elif event.type == "delegation.started":
            self._note(f"→ {data['member']}")
        elif event.type == "delegation.completed":
            self._note(f"← {data['member']}")
        elif event.type == "tool_call.pending" and self._ask is None:
            run_id = data["pending_id"].partition(".")[0]
            self._note(f"{data['name']} waits for a decision: team-sessions runs continue {run_id}")
        elif event.type == "run.requeued":
            self._note(_pause(data))
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
        echo(text, nl=False)

    def _end_line(self) -> None:
        if self._printed:
            echo("")
        self._printed = ""

    def _note(self, text: str) -> None:
        self._end_line()
        show_aside(text)


def show_aside(text: str) -> None:
    """Print a remark about a run to stderr, dimmed."""
    echo(f"[{text}]", dim=True, err=True)


def _pause(data: dict[str, Any]) -> str:
    """Return why a run waits, and how long."""
    reason = PAUSES.get(data["reason"], data["reason"])
    seconds = math.ceil((datetime.fromisoformat(data["not_before"]) - clock.now()).total_seconds())
    return f"{reason}; next try {f'in {seconds} s' if seconds > 0 else 'now'}"


def _is_terminal() -> bool:
    return sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def require_completed(run: Run) -> None:
    """Raise click.ClickException if the run did not complete. The message says how it ended, or what it waits for."""
    if run["status"] == "paused":
        echo(f"Run {run['id']} waits for a decision: team-sessions runs continue {run['id']}", err=True)
        raise click.exceptions.Exit(PAUSED)
    if run["status"] != "completed":
        reason = f": {run['error']['message']}" if run["error"] else "."
        raise click.ClickException(f"Run {run['id']} is {run['status']}{reason}")
