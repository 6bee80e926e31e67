"""Decide in the terminal about the calls that a run waits for."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from api_stub.client import Client, RequestFailed
from api_stub.client.types import Decision, PendingCall
from worker.cli.terminal import echo

CONFIRM = "[y]es, [n]o, [e]dit, [l]ater"


def can_ask() -> bool:
    """Tell whether a person is at the terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(client: Client, run_id: str, *, user_id: str | None = None) -> bool:
    """Ask about each call that the run waits for, and send what is decided; False: nothing is."""
    calls = client.run(run_id, user_id=user_id)["pending"]
    made = [decision for call in calls if (decision := _asked(call)) is not None]
    if made:
        try:
            client.continue_run(run_id, made, user_id=user_id)
        except RequestFailed as error:
            if error.code not in ("already_decided", "run_not_paused"):
                raise
            echo(f"[{error}]", dim=True, err=True)
    return bool(made) or not calls


def described(call: Mapping[str, Any]) -> str:
    """Return a call as a person reads it: `refund(order='7', eur=5)`."""
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError:
        arguments = {"arguments": call["arguments"]}
    shown = arguments.items() if isinstance(arguments, dict) else [("arguments", arguments)]
    return f"{call['tool']}({', '.join(f'{name}={value!r}' for name, value in shown)})"


def named(calls: Sequence[PendingCall], text: str) -> PendingCall:
    """Return the call with this id, or whose id ends so. Raises click.ClickException."""
    found = [call for call in calls if call["id"] == text or call["id"].endswith(f".{text}")]
    if len(found) != 1:
        ids = ", ".join(call["id"] for call in calls) or "none"
        raise click.ClickException(f"The run has no pending call {text!r}, or several. It waits for: {ids}.")
    return found[0]


def value_of(text: str, schema: Mapping[str, Any]) -> Any:
    """Return what a person typed for an argument: text as it is, where the schema wants text; else as JSON."""
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _asked(call: PendingCall) -> Decision | None:
    """Ask about one call; None: later."""
    who = f"{call['author']}: " if call["delegation"] else ""
    title = f"{who}{described(call)}"
    if call["kind"] == "confirmation":
        return _confirmed(call, title)
    echo(title, err=True)
    if call["kind"] == "external":
        result = click.prompt("its result (empty: later)", default="", show_default=False, err=True)
        return {"id": call["id"], "action": "answer", "result": result} if result else None
    given: dict[str, Any] = {}
    for name in call["fields"]:
        schema = call["schema"].get("properties", {}).get(name, {})
        text = click.prompt(f"{name} (empty: later)", default="", show_default=False, err=True)
        if not text:
            return None
        given[name] = value_of(text, schema)
    return {"id": call["id"], "action": "answer", "arguments": given}


def _confirmed(call: PendingCall, title: str) -> Decision | None:
    while True:
        answer = click.prompt(f"{title}? {CONFIRM}", default="l", show_default=False, err=True).strip().lower()[:1]
        if answer == "y":
            return {"id": call["id"], "action": "approve"}
        if answer == "n":
            note = click.prompt("why (for the model)", default="", show_default=False, err=True)
            return {"id": call["id"], "action": "reject", "note": note or None}
        if answer == "l":
            return None
        if answer == "e":
            text = click.prompt("arguments, as JSON", default=call["arguments"], err=True)
            try:
                changed = json.loads(text)
            except ValueError:
                changed = None
            if isinstance(changed, dict):
                return {"id": call["id"], "action": "approve", "arguments": changed}
            echo("Expected a JSON object.", err=True)
