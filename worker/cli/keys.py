"""`team-sessions keys`: API keys."""

import re
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime

import click

from worker import settings as configuration
from worker.cli import database
from worker.cli.output import json_option, json_requested, print_object
from worker.cli.table import print_table
from worker.clock import rfc3339
from worker.domain import Scope, check_id
from worker.domain.principal import NOT_BY_DEFAULT
from worker.store import Database, api_keys
from worker.store.api_keys import Key

MAX_GRACE_S = 30 * 86_400


def _check_key_id(value: str) -> str:
    if not re.fullmatch("[0-9a-f]{16}", value):  # the message does not repeat the value, which may be a secret key
        raise click.BadParameter("expected the id of a key: 16 hexadecimal digits, as 'keys list' shows it.")
    return value


KEY_ID = click.argument("key_id", metavar="ID", type=_check_key_id)


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys."""


@keys.command()
@click.option("--name", required=True, help="What the key is for.")
@click.option("--user", "user_id", help="Bind it to this user. Default: a service key.")
@click.option("--team", "teams", multiple=True, help="Bind it to this team; can be repeated.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; can be repeated. Default: everything but admin.",
)
def create(name: str, user_id: str | None, teams: tuple[str, ...], scopes: tuple[str, ...]) -> None:
    """Create a key and print it. It is not shown again.

    A service key names the user that it acts for in each request; without a user it sees all users. A key bound to a
    user acts as that user. Without --scope it has every scope but approvals and admin; admin includes all scopes.
    Without runs:read, answers about runs have only ids, status and times, and the results of batches cannot be read.
    With approvals it decides about calls that only an operator decides about.
    """
    check_id(name, field="name")
    for value, field in [(user_id, "user"), *((team, "team") for team in teams)]:
        if value is not None:
            check_id(value, field=field)
    if user_id is not None and Scope.APPROVALS in scopes:
        raise click.UsageError("The scope 'approvals' is for operators: make the key bound to no user.")
    with _database() as db, db.write() as tx:
        key = api_keys.create(tx, name=name, user_id=user_id, teams=frozenset(teams), scopes=frozenset(scopes))
    click.echo(key)


@keys.command("list")
@json_option("Print them as JSON.")
def list_keys() -> None:
    """List all keys, revoked ones too, without their secrets."""
    with _database() as db, db.read() as tx:
        keys = api_keys.every(tx)
    if json_requested():
        print_object([_as_json(key) for key in keys], str)
        return
    head = ("ID", "NAME", "USER", "TEAMS", "SCOPES", "CREATED (UTC)", "ENDS (UTC)")
    print_table([head, *map(_as_row, keys)], whole=(0, 2))


@keys.command()
@KEY_ID
def revoke(key_id: str) -> None:
    """Revoke a key. Within two seconds every API process refuses it."""
    with _database() as db, db.write() as tx:
        api_keys.revoke(tx, key_id)
    click.echo(f"Key {key_id} is revoked.")


@keys.command()
@KEY_ID
@click.option(
    "--grace", "grace_s", type=click.IntRange(0, MAX_GRACE_S), default=0, help="Seconds the old key still works."
)
def rotate(key_id: str, grace_s: int) -> None:
    """Create a key with the name, user, teams and scopes of the key ID, print it, and revoke the old one.

    The new key has a new id.
    """
    with _database() as db, db.write() as tx:
        key = api_keys.rotate(tx, key_id, grace_s=grace_s)
    click.echo(key)


def _database() -> AbstractContextManager[Database]:
    return database.opened(configuration.load())


def _as_json(key: Key) -> dict[str, object]:
    times = {"created_at": rfc3339(key.created_at), "revoked_at": key.revoked_at and rfc3339(key.revoked_at)}
    return asdict(key) | {"scopes": _scopes(key)} | times


def _as_row(key: Key) -> tuple[str, ...]:
    teams, scopes = ",".join(key.teams) or "every", ",".join(_scopes(key))
    user = "(service)" if key.user_id is None else key.user_id
    return key.id, key.name, user, teams, scopes, _utc(key.created_at), _utc(key.revoked_at)


def _scopes(key: Key) -> list[str]:
    """Return the scopes of a key; a row without scopes means all that a key has by default."""
    return key.scopes or [scope.value for scope in Scope if scope not in NOT_BY_DEFAULT]


def _utc(time: datetime | None) -> str:
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%S")
