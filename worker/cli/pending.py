"""`team-sessions pending` and `runs continue`: list the calls that wait for a decision, and decide about them."""

import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import click

from api_stub.client.types import DecidedBy, Decision, PendingKind
from worker import clock
from worker.cli.connection import connect, object_options
from worker.cli.decisions import ask, can_ask, described, named, value_of
from worker.cli.output import list_options, note, print_list, print_object
from worker.cli.table import age

HEAD = ("ID", "KIND", "CALL", "TEAM", "USER", "BY", "AGE")


@click.group()
def pending() -> None:
    """List the calls that wait for a decision.

    \b
        team-sessions pending list --team support
        team-sessions runs continue RUN
    """


@pending.command("list")
@click.option("--team", help="Only of this team.")
@click.option("--user", "user_id", help="Only of this user.")
@click.option("--run", "run_id", help="Only of this run.")
@click.option("--kind", type=click.Choice(get_args(PendingKind)), help="Only calls of this kind.")
@click.option("--by", "decided_by", type=click.Choice(get_args(DecidedBy)), help="Only calls that these decide about.")
@list_options
def list_pending(
    team: str | None,
    user_id: str | None,
    run_id: str | None,
    kind: PendingKind | None,
    decided_by: DecidedBy | None,
    limit: int,
    every: bool,
) -> None:
    """List the calls that wait for a decision, oldest first, with their arguments."""
    with connect() as client:
        calls = client.pending(team=team, user_id=user_id, run_id=run_id, kind=kind, decided_by=decided_by)
        page: Iterable[Mapping[str, Any]] = calls if every else islice(calls, limit)
        print_list(page, _as_row, label="Calls", head=HEAD, omit=(), whole=(0,))


@click.command("continue")
@object_options("run_id")
@click.option("--approve", multiple=True, metavar="CALL", help="Make this call.")
@click.option("--reject", multiple=True, metavar="CALL", help="Do not make this call.")
@click.option("--note", "why", help="Why it is rejected, for the model.")
@click.option("--result", multiple=True, nargs=2, metavar="CALL FILE", help="The result of this call; '-': from stdin.")
@click.option("--set", "given", multiple=True, nargs=2, metavar="CALL NAME=VALUE", help="An argument that it asks for.")
@click.option("--all", "every", is_flag=True, help="Approve every call that waits for a confirmation.")
@click.option("--approver", help="The person who decided, for the record.")
def continue_run(
    run_id: str,
    user_id: str | None,
    approve: tuple[str, ...],
    reject: tuple[str, ...],
    why: str | None,
    result: tuple[tuple[str, str], ...],
    given: tuple[tuple[str, str], ...],
    every: bool,
    approver: str | None,
) -> None:
    """Decide about the calls that the run ID waits for. It goes on at once with what is decided.

    A CALL is its id, as 'pending list' shows it, or the end of it, such as 4.0. Without an option it asks in the
    terminal, call by call.

    \b
        team-sessions runs continue RUN --approve 4.0 --reject 4.1 --note "too much"
        team-sessions runs continue RUN --set 4.2 address="Rome, Via Appia 1"
        psql … | team-sessions runs continue RUN --result 4.3 -
    """
    with connect() as client:
        if not (approve or reject or result or given or every):
            if not can_ask():
                raise click.UsageError("Say what is decided: --approve, --reject, --result, --set or --all.")
            ask(client, run_id, user_id=user_id)
            print_object(client.run(run_id, user_id=user_id), _sentence)
            return
        calls = client.run(run_id, user_id=user_id)["pending"]
        decisions: list[Decision] = [{"id": named(calls, call)["id"], "action": "approve"} for call in approve]
        decisions += [{"id": named(calls, call)["id"], "action": "reject", "note": why} for call in reject]
        decisions += [
            {"id": named(calls, call)["id"], "action": "answer", "result": _text(file)} for call, file in result
        ]
        arguments: dict[str, dict[str, Any]] = {}
        for call, text in given:
            name, equals, value = text.partition("=")
            if not equals:
                raise click.UsageError(f"--set {call} {text}: expected NAME=VALUE.")
            known = named(calls, call)
            schema = known["schema"].get("properties", {}).get(name, {})
            arguments.setdefault(known["id"], {})[name] = value_of(value, schema)
        decisions += [{"id": id, "action": "answer", "arguments": values} for id, values in arguments.items()]
        decided = {decision["id"] for decision in decisions}
        if every:
            waiting = [call for call in calls if call["kind"] == "confirmation" and call["id"] not in decided]
            decisions += [{"id": call["id"], "action": "approve"} for call in waiting]
        if not decisions:
            raise click.ClickException(f"Run {run_id} waits for no such call.")
        run = client.continue_run(run_id, decisions, approver=approver, user_id=user_id)
    print_object(run, _sentence)
    note(f"To watch it: team-sessions runs watch {run_id}")


def _text(file: str) -> str:
    return (sys.stdin.read() if file == "-" else Path(file).read_text()).removesuffix("\n")


def _sentence(run: Mapping[str, Any]) -> str:
    waits = len(run.get("pending", ()))
    return f"Run {run['id']} is {run['status']}" + (f"; {waits} of its calls wait for a decision." if waits else ".")


def _as_row(call: Mapping[str, Any]) -> tuple[str, ...]:
    since = age(call["created_at"], now=clock.now())
    return call["id"], call["kind"], described(call), call["team"], call["user_id"], call["decided_by"], since
