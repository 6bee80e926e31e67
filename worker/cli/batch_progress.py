"""The progress of a batch: a bar on a terminal, else a line every few seconds; and the commands that may come next."""

import shlex
import sys
import time
from datetime import timedelta
from typing import cast

import click

from api_stub.client import Batch, Client
from worker.cli.terminal import ERASE_LINE, control
from worker.controls import visible

POLL_S = 0.5
LINE_S = 10.0  # between two lines without a terminal
WIDTH = 30
OUTCOMES = ("completed", "same", "changed", "diverged", "failed", "cancelled", "gone")
PAUSED = 3  # exit code


def watch(client: Client, batch_id: str, *, user_id: str | None = None) -> Batch:
    """Show the progress of a batch on stderr until it ends or pauses; return its last state."""
    progress = Progress()
    try:
        while True:
            batch = client.batch(batch_id, user_id=user_id)
            progress.show(batch)
            if is_settled(batch):
                return batch
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        progress.end()
        click.echo(f"The batch continues. Watch it again with: {command('watch', batch_id, user_id)}", err=True)
        raise click.Abort() from None
    finally:
        progress.end()


def is_settled(batch: Batch) -> bool:
    """Return whether a batch has ended, or is paused with nothing in flight."""
    waits = batch["status"] == "paused" and not batch["items"]["in_flight"]
    return waits or batch["finished_at"] is not None


class Progress:
    """The progress line of a batch on stderr."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._printed = ""
        self._at = 0.0

    def show(self, batch: Batch) -> None:
        """Print the progress if it changed."""
        text = _line(batch, bar=self._terminal)
        if self._terminal:
            control(f"\r{visible(text)}{ERASE_LINE[1:]}", err=True)
        elif text != self._printed and (time.monotonic() - self._at >= LINE_S or is_settled(batch)):
            self._at = time.monotonic()
            click.echo(text, err=True)
        else:
            return
        self._printed = text

    def end(self) -> None:
        """End the line of the bar."""
        if self._terminal and self._printed:
            click.echo(err=True)
            self._printed = ""


def _line(batch: Batch, *, bar: bool) -> str:
    items = batch["items"]
    planned, ended = items["planned"], items["ended"]
    if batch["status"] == "created":
        return f"created: {planned:,} items found"
    share = ended / planned if planned else 1.0
    filled = int(share * WIDTH)
    parts = [f"[{'#' * filled}{'-' * (WIDTH - filled)}]"] if bar else []
    parts += [batch["status"], f"{share:.0%}", f"{ended:,}/{planned:,}", f"{batch['items_per_second']:.1f}/s"]
    if batch["remaining_seconds"] is not None:
        parts.append(f"{timedelta(seconds=round(batch['remaining_seconds']))} left")
    if items["failed"]:
        parts.append(f"{items['failed']:,} failed")
    return "  ".join(parts)


def conclusion(batch: Batch) -> str:
    """Return the state of a batch in a sentence."""
    items, usage = batch["items"], batch["usage"]
    reasons = {"canary": " after its canary", "budget": ": its budget is used up", "request": " by request"}
    status = batch["status"] + reasons.get(batch["paused_by"] or "", "")
    tokens = usage["input_tokens"] + usage["output_tokens"]
    cost = f", cost {batch['cost']:,.2f}" if batch["cost"] else ""
    counts = [(name, cast(int, items.get(name))) for name in OUTCOMES]
    outcomes = ", ".join(f"{count:,} {name}" for name, count in counts if count) or "none"
    ended = f"{items['ended']:,} of {items['planned']:,} items ended ({outcomes})"
    return f"{batch['id']} is {status}. {ended}; {tokens:,} tokens{cost}."


def next_steps(batch: Batch, *, user_id: str | None = None) -> list[str]:
    """Return the commands that may come next."""
    id, items = batch["id"], batch["items"]
    steps = []
    if items["failed"]:
        steps.append(f"Failed items:   {command('items', id, user_id)} --status failed")
    if batch["status"] == "paused":
        raised = ""
        if batch["paused_by"] == "budget":
            raised = " --budget-cost MORE" if batch["budget"]["tokens"] is None else " --budget-tokens MORE"
        steps.append(f"To resume:      {command('resume', id, user_id)}{raised}")
        steps.append(f"To cancel:      {command('cancel', id, user_id)}")
    elif items["failed"] and batch["status"] == "completed":
        steps.append(f"To retry:       {command('retry', id, user_id)}")
    if items["ended"]:
        steps.append(f"Results:        {command('results', id, user_id)}")
    return steps


def command(verb: str, batch_id: str, user_id: str | None = None) -> str:
    """Return the command line of a verb for a batch."""
    return f"team-sessions batches {verb} {batch_id}" + (f" --user {shlex.quote(user_id)}" if user_id else "")
