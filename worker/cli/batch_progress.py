"""A batch as it gets on: a bar on a terminal, a line now and then elsewhere; and what to type when it has stopped."""

import shlex
import sys
import time
from datetime import timedelta

import click

from api_stub.client import Batch, Client

LOOK_S = 0.5
LINE_S = 10.0  # between two lines, where there is no terminal
WIDTH = 30
OUTCOMES = ("completed", "same", "changed", "diverged", "failed", "cancelled", "gone")
PAUSED = 3  # the code that a command ends with


def watch(client: Client, batch_id: str, *, user_id: str | None = None) -> Batch:
    """Show on stderr how a batch gets on, until it ends or waits for somebody; return it as it is then."""
    progress = Progress()
    try:
        while True:
            batch = client.batch(batch_id, user_id=user_id)
            progress.show(batch)
            if stands(batch):
                return batch
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        progress.end()
        click.echo(f"It goes on. Come back with: {command('watch', batch_id, user_id)}", err=True)
        raise click.Abort() from None
    finally:
        progress.end()


def stands(batch: Batch) -> bool:
    """Tell whether a batch has ended, or is paused with nothing in flight."""
    waits = batch["status"] == "paused" and not batch["items"]["in_flight"]
    return waits or batch["finished_at"] is not None


class Progress:
    """What was shown of a batch."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = ""
        self._at = 0.0

    def show(self, batch: Batch) -> None:
        """Show how far it is, where that is news."""
        text = _line(batch, bar=self._terminal)
        if self._terminal:
            click.echo(f"\r{text}\x1b[K", nl=False, err=True)
        elif text != self._shown and (time.monotonic() - self._at >= LINE_S or stands(batch)):
            self._at = time.monotonic()
            click.echo(text, err=True)
        else:
            return
        self._shown = text

    def end(self) -> None:
        """End the line of the bar."""
        if self._terminal and self._shown:
            click.echo(err=True)
            self._shown = ""


def _line(batch: Batch, *, bar: bool) -> str:
    items = batch["items"]
    planned, ended = items["planned"], items["ended"]
    if batch["status"] == "created":
        return f"created: {planned:,} items so far"
    share = ended / planned if planned else 1.0
    filled = int(share * WIDTH)
    said = [f"[{'#' * filled}{'-' * (WIDTH - filled)}]"] if bar else []
    said += [batch["status"], f"{share:.0%}", f"{ended:,}/{planned:,}", f"{batch['items_per_second']:.1f}/s"]
    if batch["remaining_seconds"] is not None:
        said.append(f"{timedelta(seconds=round(batch['remaining_seconds']))} left")
    if items["failed"]:
        said.append(f"{items['failed']:,} failed")
    return "  ".join(said)


def conclusion(batch: Batch) -> str:
    """Return what came of a batch, in a sentence."""
    items, usage = batch["items"], batch["usage"]
    how = {"canary": " after its canary", "budget": ": its budget is used up", "request": " by request"}
    status = batch["status"] + how.get(batch["paused_by"] or "", "")
    tokens = usage["input_tokens"] + usage["output_tokens"]
    cost = f", cost {batch['cost']:,.2f}" if batch["cost"] else ""
    ended = f"{items['ended']:,} of {items['planned']:,} items ended ({counted(items)})"
    return f"{batch['id']} is {status}. {ended}; {tokens:,} tokens{cost}."


def counted(counts: object) -> str:
    """Return how many items ended in which way."""
    assert isinstance(counts, dict)
    return ", ".join(f"{counts[name]:,} {name}" for name in OUTCOMES if counts.get(name)) or "none"


def next_steps(batch: Batch, *, user_id: str | None = None) -> list[str]:
    """Return what to type next."""
    id, items = batch["id"], batch["items"]
    steps = []
    if items["failed"]:
        steps.append(f"What failed:    {command('items', id, user_id)} --status failed")
    if batch["status"] == "paused":
        raised = ""
        if batch["paused_by"] == "budget":
            raised = " --budget-cost MORE" if batch["budget"]["tokens"] is None else " --budget-tokens MORE"
        steps.append(f"To go on:       {command('resume', id, user_id)}{raised}")
        steps.append(f"To end it:      {command('cancel', id, user_id)}")
    elif items["failed"] and batch["status"] == "completed":
        steps.append(f"Again:          {command('retry', id, user_id)}")
    if items["ended"]:
        steps.append(f"What came:      {command('results', id, user_id)}")
    return steps


def command(verb: str, batch_id: str, user_id: str | None = None) -> str:
    """Return a command about a batch, to be typed."""
    return f"team-sessions batches {verb} {batch_id}" + (f" --user {shlex.quote(user_id)}" if user_id else "")
