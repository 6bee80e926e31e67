"""The options of `batches create`, and the files that list a batch's items, sent in chunks that fit into a request."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar

import click

from api_stub.client import Batch, Client, ClientError
from api_stub.client.types import BatchKind
from worker.cli.numbers import COST, COUNT
from worker.cli.output import counted
from worker.clock import rfc3339

F = TypeVar("F", bound=Callable[..., object])
LISTS = {"refresh_summaries": "session_ids", "replay_runs": "run_ids", "retry_failed": "run_ids"}
MAX_ITEMS = 1_000  # of one request
# Characters of JSON. The API takes a body of 262,144 bytes, and more with what it allows for one input.
MAX_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some items, the number of the first one, and whether more follow."""

    items: list[Any]
    first: int
    more: bool

    @property
    def last(self) -> int:
        return self.first + len(self.items) - 1


def parse_time(value: str) -> str:
    """Return a time as the API takes it; one without an offset is in UTC."""
    try:
        at = datetime.fromisoformat(value)
        return rfc3339(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        message = f"{value!r} is not a time. Expected 2026-01-31 or 2026-01-31T12:00:00+01:00."
        raise click.BadParameter(message) from None


def order_options(command: F) -> F:
    """Give a command the options of a batch."""
    options = [
        click.option("--team", help="Only of this team."),
        click.option("--team-version", help="Only runs of this version of the team, or sessions with such runs."),
        click.option("--user", "user_id", help="Only of this user."),
        click.option("--tag", help="Only of sessions with this tag."),
        click.option("--name-is", help="Only of sessions of exactly this name."),
        click.option(
            "--status", type=click.Choice(["completed", "failed", "cancelled"]), help="Only runs with this status."
        ),
        click.option(
            "--since",
            type=parse_time,
            metavar="TIME",
            help="Only runs accepted, or sessions last active, at or after this time.",
        ),
        click.option(
            "--until", type=parse_time, metavar="TIME", help="Only runs accepted, or sessions last active, before then."
        ),
        click.option(
            "--summary-below", type=COUNT, metavar="N", help="Only sessions whose summary version is below N."
        ),
        click.option(
            "--summary-not-by", metavar="HASH", help="Only sessions whose summary was made with another prompt."
        ),
        click.option("--ids-file", type=click.File(encoding="utf-8"), help="Ids, one a line; '-' is standard input."),
        click.option("--requests", type=click.File(encoding="utf-8"), help="Runs to enqueue, as JSON lines."),
        click.option("--name", help="Name for people."),
        click.option("--canary", metavar="N|N%", help="Items that come first; then it pauses for your approval."),
        click.option("--window", type=COUNT, help="The most items in flight.  [default: 100]"),
        click.option("--items-per-minute", type=COUNT, help="The most items that begin per minute."),
        click.option("--requests-per-minute", type=COUNT, help="The most requests to the model per minute."),
        click.option("--tokens-per-minute", type=COUNT, help="The most tokens per minute."),
        click.option("--budget-tokens", type=COUNT, help="Pause when this many tokens are used."),
        click.option("--budget-cost", type=COST, help="Pause at this cost, by TEAM_SESSIONS_PRICES."),
        click.option("--rebuild", is_flag=True, help="Make summaries from the first message."),
        click.option(
            "--execute-tools", is_flag=True, help="Execute tools in replays, instead of using recorded results."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def listed_items(kind: str, ids_file: TextIO | None, requests: TextIO | None) -> Iterator[Any] | None:
    """Return the items that a file lists; None: there is no file."""
    if (kind == "enqueue_runs") != (requests is not None):
        needs = "needs --requests FILE, with one JSON object a line" if requests is None else "takes no --requests"
        raise click.UsageError(f"{kind} {needs}.")
    if requests is not None and ids_file is not None:
        raise click.UsageError("enqueue_runs takes no --ids-file.")
    if requests is not None:
        return read_requests(requests)
    return None if ids_file is None else read_ids(ids_file)


def order_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a batch as the client takes them. It removes all but the filters from *options*."""
    limits = {name: options.pop(name) for name in ("items_per_minute", "requests_per_minute", "tokens_per_minute")}
    budget = {"tokens": options.pop("budget_tokens"), "cost": options.pop("budget_cost")}
    others = {name: options.pop(name) or None for name in ("name", "canary", "window", "rebuild", "execute_tools")}
    select = {"name" if name == "name_is" else name: value for name, value in options.items() if value is not None}
    return {"select": select, "limits": limits, "budget": budget, **others}


def send(client: Client, kind: BatchKind, order: dict[str, Any], items: Iterator[Any]) -> Batch:
    """Create a batch with listed items, chunk by chunk. It begins after the last chunk.

    Raises:
        click.ClickException: a chunk was refused, or the file is not valid. The batch is cancelled.
    """
    field = LISTS.get(kind, "requests")
    batch: Batch | None = None
    chunk: Chunk | None = None
    try:
        with counted(items, label="Sending", to=None) as counting:
            for chunk in split(iter(counting)):
                listed: dict[str, Any] = {field: chunk.items, "more": chunk.more}
                if batch is None:
                    batch = client.create_batch(kind, **order, **listed)
                else:
                    batch = client.add_to_batch(batch["id"], first=chunk.first, **listed)
    except (ClientError, click.ClickException) as error:
        if batch is None:
            raise
        client.cancel_batch(batch["id"])
        where = f"items {chunk.first} to {chunk.last}" if chunk is not None and chunk.more else "the last items"
        reason = error.message if isinstance(error, click.ClickException) else f"{error} (at {where})"
        raise click.ClickException(f"{reason} Batch {batch['id']} is cancelled; none of its items began.") from error
    if batch is None:
        raise click.UsageError("The file is empty.")
    return batch


def read_ids(file: TextIO) -> Iterator[str]:
    """Yield the ids of a file, one per line."""
    for line in file:
        if id := line.strip():
            yield id


def read_requests(file: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines.

    Raises:
        click.ClickException: a line is not a JSON object.
    """
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            example = '{"custom_id": "row-1", "team": "support", "input": "Hello."}'
            raise click.ClickException(f"Line {number} of {file.name!r} is not a JSON object. Expected: {example}")
        yield value


def split(items: Iterator[Any]) -> Iterator[Chunk]:
    """Split items into chunks. An item that is too large for a chunk is sent alone."""
    first, size = 1, 0
    held: list[Any] = []
    for item in items:
        length = len(json.dumps(item)) + 2
        if held and (len(held) == MAX_ITEMS or size + length > MAX_CHARS):
            yield Chunk(held, first, more=True)
            first, size, held = first + len(held), 0, []
        held.append(item)
        size += length
    if held:
        yield Chunk(held, first, more=False)
