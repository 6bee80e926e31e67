"""The session's state, and its changes: by top-level keys, so that parallel tools lose no change."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StateChange:
    """Keys that were set, and keys that were removed."""

    values: dict[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values or self.removed)

    def __or__(self, later: "StateChange") -> "StateChange":
        values = {key: value for key, value in self.values.items() if key not in later.removed} | later.values
        removed = {*self.removed, *later.removed} - set(later.values)
        return StateChange(values, tuple(sorted(removed)))

    def applied_to(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return *state* with this change."""
        return {key: value for key, value in state.items() if key not in self.removed} | self.values


NO_CHANGE = StateChange()


def difference(before: dict[str, Any], after: dict[str, Any]) -> StateChange:
    """Return the change from *before* to *after*."""
    values = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return StateChange(values, tuple(sorted(set(before) - set(after))))
