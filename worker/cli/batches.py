"""`team-sessions batches`: order a batch, watch it, steer it, read its results."""

import json
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, TextIO, cast, get_args

import click

from api_stub.client import Batch, Client, Item
from api_stub.client.types import BatchKind, ItemStatus
from worker.cli.batch_options import COUNT, named, order_of, order_options, send
from worker.cli.batch_progress import OUTCOMES, PAUSED, command, conclusion, next_steps, watch
from worker.cli.connection import connect
from worker.cli.progress_bar import counted
from worker.cli.table import print_table

KINDS = get_args(BatchKind)
PAGE = 200


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
FOR_USER = click.option("--user", "user_id", help="The user that a service key acts for.")
BATCH = click.argument("batch_id", metavar="ID")


@click.group()
def batches() -> None:
    """One order over many sessions or runs: refresh summaries, replay runs, retry what failed, enqueue runs.

    \b
        team-sessions batches create retry_failed --team support --since 2026-01-01 --dry-run
        team-sessions batches create retry_failed --team support --since 2026-01-01 --canary 1% --watch
        team-sessions batches resume ID
        team-sessions batches watch ID
    """


@batches.command()
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@order_options
@click.option("--dry-run", is_flag=True, help="Only say how many there are, and about what it would cost.")
@click.option("--watch", "and_watch", is_flag=True, help="Show how it gets on, up to its end.")
@AS_JSON
def create(kind: BatchKind, dry_run: bool, and_watch: bool, as_json: bool, **said: Any) -> None:
    """Order a batch of KIND, and print its id.

    \b
        refresh_summaries   bring the summary of each session up to date, or with --rebuild make it anew
        replay_runs         give the input of each run to its team as it is now, and compare the answers
        retry_failed        repeat each failed run at the end of its session
        enqueue_runs        enqueue the runs of a file

    Its items are found by the options that say "only", or named by a file: --ids-file has ids of sessions for
    refresh_summaries, else of runs; --requests has runs for enqueue_runs:

    \b
        {"custom_id": "row-1", "team": "support", "input": "Hello.", "user_id": "u-7"}

    Ends with code 3 where --watch has found it paused.
    """
    items = named(kind, said.pop("ids_file"), said.pop("requests"))
    order = order_of(said)
    if dry_run and items is not None:
        raise click.UsageError("--dry-run counts what is found; what a file names is known. Leave one of them out.")
    with connect() as client:
        if dry_run:
            _print_estimate(client, kind, order["select"], as_json=as_json)
            return
        batch = client.create_batch(kind, **order) if items is None else _send(client, kind, order, items)
        if not and_watch:
            click.echo(json.dumps(batch, ensure_ascii=False, indent=2) if as_json else batch["id"])
            click.echo(f"To watch it: {command('watch', batch['id'])}", err=True)
            return
        if not as_json:
            click.echo(batch["id"])
        _watch(client, batch["id"], as_json=as_json)


def _send(client: Client, kind: BatchKind, order: dict[str, Any], items: Iterator[Any]) -> Batch:
    with counted(items, label="Sending", to=None) as counting:
        return send(client, kind, order, iter(counting))


def _print_estimate(client: Client, kind: BatchKind, select: Any, *, as_json: bool) -> None:
    found = client.estimate_batch(kind, select=select)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    what = "sessions" if kind == "refresh_summaries" else "runs"
    sample = ", ".join(found["sample"]) + (", …" if found["count"] > len(found["sample"]) else "")
    click.echo(f"{found['count']:,} {what}" + (f": {sample}" if sample else ""))
    cost = "unknown: TEAM_SESSIONS_PRICES names no prices" if found["cost"] is None else f"{found['cost']:,.2f}"
    click.echo(f"about {found['input_tokens']:,} input and {found['output_tokens']:,} output tokens; cost {cost}")


@batches.command("list")
@FOR_USER
@click.option("--limit", type=COUNT, default=20, show_default=True, help="The newest so many.")
@AS_JSON
def list_batches(user_id: str | None, limit: int, as_json: bool) -> None:
    """Show batches, the newest first."""
    with connect() as client:
        found = list(islice(client.batches(user_id=user_id), limit))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    head = ("ID", "KIND", "NAME", "STATUS", "ITEMS", "ENDED", "FAILED", "CREATED (UTC)")
    print_table([head, *map(_as_row, found)])


def _as_row(batch: Batch) -> tuple[str, ...]:
    items = batch["items"]
    counts = (str(items[name]) for name in ("planned", "ended", "failed"))
    return batch["id"], batch["kind"], batch["name"] or "", batch["status"], *counts, batch["created_at"][:19]


@batches.command()
@BATCH
@FOR_USER
@AS_JSON
def show(batch_id: str, user_id: str | None, as_json: bool) -> None:
    """Show the batch ID: what was ordered, how far it is, and what to type next."""
    with connect() as client:
        batch = client.batch(batch_id, user_id=user_id)
    if as_json:
        click.echo(json.dumps(batch, ensure_ascii=False, indent=2))
        return
    told = {name: value for name, value in batch.items() if name not in ("id", "items", "usage", "cost")}
    rows = [(name.replace("_", " "), _spelled(value)) for name, value in told.items() if _spelled(value)]
    print_table([*rows, ("items", _spelled(batch["items"])), ("usage", _spelled(batch["usage"]))])
    click.echo(conclusion(batch))
    for step in next_steps(batch, user_id=user_id):
        click.echo(step, err=True)


def _spelled(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_spelled(one)}" for name, one in value.items() if one not in (None, 0))
    return "" if value is None or value is False else "yes" if value is True else str(value)


@batches.command()
@BATCH
@FOR_USER
@click.option("--status", type=click.Choice(get_args(ItemStatus)), help="Only those that stand so.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an item a line.")
def items(batch_id: str, user_id: str | None, status: ItemStatus | None, as_json: bool) -> None:
    """Show the items of the batch ID, in their order, as they stand now."""
    widths: list[int] = []
    with connect() as client:
        found = client.batch_items(batch_id, status=status, user_id=user_id)
        if as_json:
            for item in found:
                click.echo(json.dumps(item, ensure_ascii=False))
            return
        rows = chain(
            [("NUMBER", "YOUR ID", "SESSION", "USER", "RUN", "STATUS", "TRIES", "ERROR")], map(_item_row, found)
        )
        while piece := list(islice(rows, PAGE)):
            widths = print_table(piece, least=widths)


def _item_row(item: Item) -> tuple[str, ...]:
    ids = (item["custom_id"] or "", item["session_id"] or "", item["user_id"] or "")
    run = item["run_id"] or item["source_run_id"] or ""
    error = item["error"]["code"] if item["error"] else ""
    return str(item["number"]), *ids, run, item["status"], str(item["tries"]), error


@batches.command("watch")
@BATCH
@FOR_USER
@AS_JSON
def watch_batch(batch_id: str, user_id: str | None, as_json: bool) -> None:
    """Show how the batch ID gets on, until it has ended or waits for you; then say what to type next.

    Ends with code 0 for a completed batch, 1 for one that was cancelled or failed, 3 for a paused one. Ctrl-C ends the
    watching, and not the batch.
    """
    with connect() as client:
        _watch(client, batch_id, user_id=user_id, as_json=as_json)


def _watch(client: Client, batch_id: str, *, user_id: str | None = None, as_json: bool) -> None:
    batch = watch(client, batch_id, user_id=user_id)
    click.echo(json.dumps(batch, ensure_ascii=False, indent=2) if as_json else conclusion(batch))
    for step in next_steps(batch, user_id=user_id):
        click.echo(step, err=True)
    if batch["status"] != "completed":
        sys.exit(PAUSED if batch["status"] == "paused" else 1)


@batches.command()
@BATCH
@FOR_USER
@AS_JSON
def pause(batch_id: str, user_id: str | None, as_json: bool) -> None:
    """Begin no more items of the batch ID; those in flight go on."""
    with connect() as client:
        _print(client.pause_batch(batch_id, user_id=user_id), as_json=as_json)


@batches.command()
@BATCH
@FOR_USER
@click.option("--budget-tokens", type=COUNT, help="The new budget in all, used up or not.")
@click.option("--budget-cost", type=float, help="The same, in money.")
@AS_JSON
def resume(
    batch_id: str, user_id: str | None, budget_tokens: int | None, budget_cost: float | None, as_json: bool
) -> None:
    """Go on with the batch ID. After its canary this is the yes to all others; a budget that is used up is raised."""
    with connect() as client:
        budget = {"tokens": budget_tokens, "cost": budget_cost}
        batch = client.resume_batch(batch_id, budget=cast(Any, budget), user_id=user_id)
        _print(batch, as_json=as_json)


@batches.command()
@BATCH
@FOR_USER
@AS_JSON
def cancel(batch_id: str, user_id: str | None, as_json: bool) -> None:
    """End the batch ID: begin no more items, and cancel the runs in flight. What was done stays."""
    with connect() as client:
        _print(client.cancel_batch(batch_id, user_id=user_id), as_json=as_json)


@batches.command()
@BATCH
@FOR_USER
@AS_JSON
def retry(batch_id: str, user_id: str | None, as_json: bool) -> None:
    """Begin the items of the batch ID again that failed, diverged or were cancelled."""
    with connect() as client:
        _print(client.retry_batch(batch_id, user_id=user_id), as_json=as_json)


def _print(batch: Batch, *, as_json: bool) -> None:
    click.echo(json.dumps(batch, ensure_ascii=False, indent=2) if as_json else conclusion(batch))


@batches.command()
@BATCH
@FOR_USER
@click.option("--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="Write to this file.")
def results(batch_id: str, user_id: str | None, output: TextIO) -> None:
    """Print all items of the batch ID as JSON lines, with the answers of their runs.

    Of replays each line has the old and the new answer, and how many were the same is said at the end.
    """
    counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    with connect() as client:
        batch = client.batch(batch_id, user_id=user_id)
        planned, kind = batch["items"]["planned"], batch["kind"]
        with counted(
            client.batch_results(batch_id, user_id=user_id), label="Results", to=output, length=planned
        ) as lines:
            for line in lines:
                click.echo(json.dumps(line, ensure_ascii=False), file=output)
                counts[line["status"]] = counts.get(line["status"], 0) + 1
    if kind == "replay_runs":
        always = ", ".join(f"{counts.pop(name):,} {name}" for name in ("same", "changed", "diverged", "failed"))
        others = "".join(f", {count:,} {name}" for name, count in counts.items() if count)
        click.echo(always + others, err=True)
