"""`team-sessions batches`: create, watch, pause, resume, cancel and retry a batch; read its items and results."""

import sys
from itertools import islice
from typing import Any, TextIO, cast, get_args

import click

from api_stub.client import Batch, Client, Item
from api_stub.client.types import BatchKind, Estimate, ItemStatus
from worker.cli.batch_options import listed_items, order_fields, order_options, send
from worker.cli.batch_progress import OUTCOMES, PAUSED, command, conclusion, next_steps, watch
from worker.cli.connection import FOR_USER, connect, object_options
from worker.cli.numbers import COST, COUNT
from worker.cli.output import JSON, JSON_LINES, counted, json_line, json_requested, note, print_lines, print_object
from worker.cli.table import format_fields, print_pages, print_table

KINDS = get_args(BatchKind)
ITEM_HEAD = ("NUMBER", "YOUR ID", "SESSION", "USER", "RUN", "STATUS", "TRIES", "ERROR")
BATCH = object_options("batch_id")


@click.group()
def batches() -> None:
    """One order over many sessions or runs: refresh summaries, replay runs, retry failed runs, enqueue runs.

    \b
        team-sessions batches create retry_failed --team support --since 2026-01-01 --dry-run
        team-sessions batches create retry_failed --team support --since 2026-01-01 --canary 1% --watch
        team-sessions batches resume ID
        team-sessions batches watch ID
    """


@batches.command()
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@order_options
@click.option("--dry-run", is_flag=True, help="Only count the items, and estimate the cost.")
@click.option("--watch", "and_watch", is_flag=True, help="Show its progress until it ends or pauses.")
@JSON
def create(kind: BatchKind, dry_run: bool, and_watch: bool, **options: Any) -> None:
    """Create a batch of KIND, and print its id.

    \b
        refresh_summaries   bring the summary of each session up to date, with --rebuild from the first message
        replay_runs         give the input of each run to its current team, and compare the answers
        retry_failed        retry each failed run at the end of its session
        enqueue_runs        enqueue the runs of a file

    The options that begin with "Only" select its items, or a file lists them: --ids-file with ids of sessions for
    refresh_summaries, else of runs; --requests with runs for enqueue_runs:

    \b
        {"custom_id": "row-1", "team": "support", "input": "Hello.", "user_id": "u-7"}

    Ends with exit code 3 if the batch pauses during --watch.
    """
    items = listed_items(kind, options.pop("ids_file"), options.pop("requests"))
    order = order_fields(options)
    if dry_run and items is not None:
        raise click.UsageError("--dry-run counts selected items, but a file lists them. Leave one of the two out.")
    with connect() as client:
        if dry_run:
            _print_estimate(client, kind, order["select"])
            return
        batch = client.create_batch(kind, **order) if items is None else send(client, kind, order, items)
        if not and_watch:
            print_object(batch, lambda batch: str(batch["id"]))
            click.echo(f"To watch it: {command('watch', batch['id'])}", err=True)
            return
        if not json_requested():
            click.echo(batch["id"])
        _watch(client, batch["id"])


def _print_estimate(client: Client, kind: BatchKind, select: Any) -> None:
    unit = "sessions" if kind == "refresh_summaries" else "runs"
    print_object(client.estimate_batch(kind, select=select), lambda estimate: _format_estimate(estimate, unit))


def _format_estimate(estimate: Estimate, unit: str) -> str:
    sample = ", ".join(estimate["sample"]) + (", …" if estimate["count"] > len(estimate["sample"]) else "")
    cost = "unknown: TEAM_SESSIONS_PRICES is not set" if estimate["cost"] is None else f"{estimate['cost']:,.2f}"
    tokens = f"about {estimate['input_tokens']:,} input and {estimate['output_tokens']:,} output tokens; cost {cost}"
    return f"{estimate['count']:,} {unit}" + (f": {sample}" if sample else "") + f"\n{tokens}"


@batches.command("list")
@FOR_USER
@click.option("--limit", type=COUNT, default=20, show_default=True, help="At most this many.")
@JSON
def list_batches(user_id: str | None, limit: int) -> None:
    """Show batches, the newest first."""
    with connect() as client:
        page = list(islice(client.batches(user_id=user_id), limit))
    if json_requested():
        print_object(page, str)
        return
    head = ("ID", "KIND", "NAME", "STATUS", "ITEMS", "ENDED", "FAILED", "CREATED (UTC)")
    print_table([head, *map(_as_row, page)], whole=(0,))


def _as_row(batch: Batch) -> tuple[str, ...]:
    items = batch["items"]
    counts = (str(items[name]) for name in ("planned", "ended", "failed"))
    return batch["id"], batch["kind"], batch["name"] or "", batch["status"], *counts, batch["created_at"][:19]


@batches.command()
@BATCH
def show(batch_id: str, user_id: str | None) -> None:
    """Show the options and the progress of the batch ID, and the commands that may come next."""
    with connect() as client:
        batch = client.batch(batch_id, user_id=user_id)
    print_object(batch, _as_text)
    for step in next_steps(batch, user_id=user_id):
        note(step)


def _as_text(batch: Batch) -> str:
    fields = {name: value for name, value in batch.items() if name not in ("id", "items", "usage", "cost")}
    fields |= {"items": batch["items"], "usage": batch["usage"]}
    return f"{format_fields({name: _format(value) for name, value in fields.items()})}\n{conclusion(batch)}"


def _format(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format(part)}" for name, part in value.items() if part not in (None, 0))
    return "" if value is None or value is False else "yes" if value is True else str(value)


@batches.command()
@click.option("--status", type=click.Choice(get_args(ItemStatus)), help="Only items with this status.")
@object_options("batch_id", json=JSON_LINES)
def items(batch_id: str, user_id: str | None, status: ItemStatus | None) -> None:
    """Show the items of the batch ID, in their order, with their current status."""
    with connect() as client:
        page = client.batch_items(batch_id, status=status, user_id=user_id)
        if json_requested():
            print_lines(page, json_line, label="Items")
        else:
            print_pages(ITEM_HEAD, map(_item_row, page), whole=range(1, 5))


def _item_row(item: Item) -> tuple[str, ...]:
    ids = (item["custom_id"] or "", item["session_id"] or "", item["user_id"] or "")
    run = item["run_id"] or item["source_run_id"] or ""
    error = item["error"]["code"] if item["error"] else ""
    return str(item["number"]), *ids, run, item["status"], str(item["tries"]), error


@batches.command("watch")
@BATCH
def watch_batch(batch_id: str, user_id: str | None) -> None:
    """Show the progress of the batch ID until it ends or pauses; then print the commands that may come next.

    Ends with exit code 0 for a completed batch, 1 for a cancelled or failed one, 3 for a paused one. Ctrl-C stops
    watching, not the batch.
    """
    with connect() as client:
        _watch(client, batch_id, user_id=user_id)


def _watch(client: Client, batch_id: str, *, user_id: str | None = None) -> None:
    batch = watch(client, batch_id, user_id=user_id)
    print_object(batch, conclusion)
    for step in next_steps(batch, user_id=user_id):
        click.echo(step, err=True)
    if batch["status"] != "completed":
        sys.exit(PAUSED if batch["status"] == "paused" else 1)


@batches.command()
@BATCH
def pause(batch_id: str, user_id: str | None) -> None:
    """Pause the batch ID: begin no more items. Items in flight continue."""
    with connect() as client:
        print_object(client.pause_batch(batch_id, user_id=user_id), conclusion)


@batches.command()
@click.option("--budget-tokens", type=COUNT, help="The new budget in total, including what is used.")
@click.option("--budget-cost", type=COST, help="The new budget in total, as a cost.")
@BATCH
def resume(batch_id: str, user_id: str | None, budget_tokens: int | None, budget_cost: float | None) -> None:
    """Resume the batch ID. After its canary, this approves all other items. Raise a used-up budget with the options."""
    with connect() as client:
        budget = {"tokens": budget_tokens, "cost": budget_cost}
        batch = client.resume_batch(batch_id, budget=cast(Any, budget), user_id=user_id)
        print_object(batch, conclusion)


@batches.command()
@BATCH
def cancel(batch_id: str, user_id: str | None) -> None:
    """Cancel the batch ID: begin no more items, and cancel the runs in flight. Finished items stay."""
    with connect() as client:
        print_object(client.cancel_batch(batch_id, user_id=user_id), conclusion)


@batches.command()
@BATCH
def retry(batch_id: str, user_id: str | None) -> None:
    """Retry the items of the batch ID that failed, diverged or were cancelled."""
    with connect() as client:
        print_object(client.retry_batch(batch_id, user_id=user_id), conclusion)


@batches.command()
@click.argument("batch_id", metavar="ID")
@FOR_USER
@click.option("--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="Write to this file.")
def results(batch_id: str, user_id: str | None, output: TextIO) -> None:
    """Print all items of the batch ID as JSON lines, with the answers of their runs.

    For replays, each line has the old and the new answer, and the last line on stderr counts the outcomes.
    """
    counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    with connect() as client:
        batch = client.batch(batch_id, user_id=user_id)
        planned, kind = batch["items"]["planned"], batch["kind"]
        with counted(
            client.batch_results(batch_id, user_id=user_id), label="Results", to=output, length=planned
        ) as lines:
            for line in lines:
                click.echo(json_line(line), file=output)
                counts[line["status"]] = counts.get(line["status"], 0) + 1
    if kind == "replay_runs":
        always = ", ".join(f"{counts.pop(name):,} {name}" for name in ("same", "changed", "diverged", "failed"))
        others = "".join(f", {count:,} {name}" for name, count in counts.items() if count)
        click.echo(always + others, err=True)
