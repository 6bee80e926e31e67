"""What a tool asks for before its call has a result: a confirmation, arguments, or the result itself."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from worker.domain.pending import DecidedBy, OnExpiry, PendingKind
from worker.errors import ToolNotDescribable


@dataclass(frozen=True, slots=True)
class Asks:
    """What a tool asks for. `when`: only if this function of the call says so.

    `fields`: the arguments that are asked for. `expires_s`: seconds until a call expires; None: as the settings say,
    `math.inf`: never.
    """

    kind: PendingKind
    when: Callable[..., Any] | None = None
    fields: tuple[str, ...] = ()
    expires_s: float | None = None
    on_expiry: OnExpiry = OnExpiry.REJECT
    decided_by: DecidedBy = DecidedBy.USER


class Asking(TypedDict, total=False):
    """The options of `@tool` by which a call waits for a decision. Only one of the first, second and fourth can be set.

    A function as `requires_confirmation` gets the arguments by name, or the `RunContext`, and says whether this call
    needs a confirmation. `decided_by` 'operator': only keys with the scope `approvals` can decide.
    """

    requires_confirmation: bool | Callable[..., Any]
    requires_user_input: bool  # arguments come from the user: those of user_input_fields, or all
    user_input_fields: Sequence[str]
    external_execution: bool  # the result comes from another program; the function is never called
    expires_s: float  # seconds until a call expires; TEAM_SESSIONS_PENDING_SECONDS by default; `math.inf`: never
    on_expiry: Literal["reject", "fail"]  # the call is rejected, or the run fails
    decided_by: Literal["user", "operator"]


ASKING = tuple(Asking.__annotations__)


def asks_of(tool: str, parameters: Mapping[str, Any], options: Mapping[str, Any]) -> Asks | None:
    """Return what a tool with these *options* and *parameters*, its JSON schema, asks for; None: nothing.

    Raises:
        ToolNotDescribable: two options exclude each other, or one names what does not exist.
    """
    confirmation, user_input_fields = options.get("requires_confirmation"), options.get("user_input_fields")
    expires_s, on_expiry = options.get("expires_s"), options.get("on_expiry") or "reject"
    decided_by = options.get("decided_by") or "user"
    kinds = {
        PendingKind.CONFIRMATION: ("requires_confirmation", confirmation),
        PendingKind.INPUT: ("requires_user_input", options.get("requires_user_input") or user_input_fields),
        PendingKind.EXTERNAL: ("external_execution", options.get("external_execution")),
    }
    asked = {kind: option for kind, (option, value) in kinds.items() if value}

    def check(is_fine: bool, problem: str) -> None:
        if not is_fine:
            raise ToolNotDescribable(function=tool, problem=problem)

    check(len(asked) <= 1, f"{' and '.join(asked.values())} exclude each other; a call asks for one thing")
    check(on_expiry in [*OnExpiry], f"on_expiry is {on_expiry!r}; expected 'reject' or 'fail'")
    check(decided_by in [*DecidedBy], f"decided_by is {decided_by!r}; expected 'user' or 'operator'")
    is_number = isinstance(expires_s, (int, float)) and not isinstance(expires_s, bool)
    check(expires_s is None or (is_number and expires_s > 0), f"expires_s is {expires_s!r}; expected seconds above 0")
    if not asked:
        return None
    kind = next(iter(asked))
    known = list(parameters.get("properties", {}))
    names = tuple(user_input_fields or known) if kind is PendingKind.INPUT else ()
    check(
        kind is not PendingKind.INPUT or bool(names),
        "requires_user_input needs a parameter that the user can give",
    )
    unknown = [name for name in names if name not in known]
    check(not unknown, f"user_input_fields names {', '.join(map(repr, unknown))}, which are no parameters")
    when = confirmation if callable(confirmation) else None
    return Asks(kind, when, names, expires_s, OnExpiry(on_expiry), DecidedBy(decided_by))


def without(parameters: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a JSON schema of an object without these properties: what the model gives."""
    return _part(parameters, [name for name in parameters.get("properties", {}) if name not in names])


def only(parameters: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a JSON schema of an object with only these properties: what is asked for."""
    return _part(parameters, names)


def _part(parameters: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    properties = {name: parameters["properties"][name] for name in names}
    part = {**parameters, "properties": properties}
    required = [name for name in parameters.get("required", ()) if name in properties]
    part.pop("required", None)
    return {**part, "required": required} if required else part


def seconds(asks: Asks, default_s: float) -> float | None:
    """Return after how many seconds a call expires; None: never."""
    expires_s = default_s if asks.expires_s is None else asks.expires_s
    return None if math.isinf(expires_s) else expires_s
