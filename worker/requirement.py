"""`Requirement`: a pending call of a paused run, for a script that decides about it. Its names are those of Agno."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.domain import Decision, PendingCall, PendingKind
from worker.errors import ArgumentInvalid
from worker.loop.fit import as_object


@dataclass(frozen=True, slots=True)
class ToolExecution:
    """One call of a tool. `tool_args` are the model's arguments by name. `result` None: the call has none yet."""

    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any]
    result: str | None


@dataclass(slots=True)
class InputField:
    """One argument that a call asks for. Set its `value`."""

    name: str
    field_type: str
    description: str
    value: Any = None


class Requirement:
    """What a pending call waits for. Decide with one of its methods, and call `continue_run`."""

    def __init__(self, call: PendingCall) -> None:
        self.call = call
        self.id, self.kind, self.author = call.id, call.kind, call.author
        arguments = json.loads(as_object(call.arguments))
        self.tool_execution = ToolExecution(call.tool_call_id, call.tool, arguments, None)
        properties = call.schema.get("properties", {})
        self.user_input_schema = [
            InputField(name, str(of.get("type", "any")), str(of.get("description", "")))
            for name, of in ((name, properties.get(name, {})) for name in call.fields)
        ]
        self._decision: Decision | None = None

    def __repr__(self) -> str:
        return f"Requirement({self.kind}, {self.tool_name}, id={self.id!r})"

    @property
    def tool_name(self) -> str:
        """The tool that the model called."""
        return self.tool_execution.tool_name

    @property
    def tool_args(self) -> dict[str, Any]:
        """The arguments that the model gave, by name."""
        return self.tool_execution.tool_args

    @property
    def needs_confirmation(self) -> bool:
        """Whether it waits for `confirm` or `reject`."""
        return self.kind is PendingKind.CONFIRMATION and self._waits

    @property
    def needs_user_input(self) -> bool:
        """Whether it waits for `provide_user_input`, or for the values of its `user_input_schema`."""
        return self.kind is PendingKind.INPUT and self._waits

    @property
    def needs_external_execution(self) -> bool:
        """Whether it waits for `set_external_execution_result`."""
        return self.kind is PendingKind.EXTERNAL and self._waits

    @property
    def decision(self) -> Decision | None:
        """What was decided here; None: nothing."""
        if self._decision is None and self._has_values:
            return Decision(self.id, "answer", {field.name: field.value for field in self.user_input_schema})
        return self._decision

    def confirm(self, *, arguments: Mapping[str, Any] | None = None) -> None:
        """Let the call be made, or be made with other *arguments*: all of them."""
        self._check(PendingKind.CONFIRMATION)
        self._decision = Decision(self.id, "approve", None if arguments is None else dict(arguments))

    def reject(self, note: str | None = None) -> None:
        """Do not let the call be made, of whatever kind it is. The model reads *note*."""
        self._decision = Decision(self.id, "reject", note=note)

    def provide_user_input(self, values: Mapping[str, Any]) -> None:
        """Give the arguments that the call asks for."""
        self._check(PendingKind.INPUT)
        self._decision = Decision(self.id, "answer", dict(values))

    def set_external_execution_result(self, result: str) -> None:
        """Give the result of the call, which was executed elsewhere."""
        self._check(PendingKind.EXTERNAL)
        self._decision = Decision(self.id, "answer", result=result)

    @property
    def _waits(self) -> bool:
        return self.call.is_open and self.decision is None

    @property
    def _has_values(self) -> bool:
        return bool(self.user_input_schema) and all(field.value is not None for field in self.user_input_schema)

    def _check(self, kind: PendingKind) -> None:
        if self.kind is not kind:
            raise ArgumentInvalid(problem=f"this call of {self.tool_name!r} waits for {self.kind}, not for {kind}")
