"""What a caller asks of one run beyond its input.

A worker of an older version would execute the run without it. So such a run says what it needs: `CONTRACT` is what a
worker of this version understands, and is announced with its teams. To add an option: a field here and in `RunOrder`
and, if workers of the last release do not know it, a new number as its `since`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

FIRST, SECOND = {"since": 1}, {"since": 2}  # the contract of workers that know an option


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run. Empty values ask for nothing.

    `session_state`: set in the session's state, by top-level keys, when the run is first claimed. `dependencies`: for
    its tools, hooks and instructions. `add_dependencies_to_context`: the model is shown them, whatever the team says.
    `output_schema`: the JSON schema that the answer must fit, and `output_name`, what the model is told it is.
    """

    session_state: dict[str, Any] = field(default_factory=dict, metadata=FIRST)
    dependencies: dict[str, Any] = field(default_factory=dict, metadata=FIRST)
    add_dependencies_to_context: bool = field(default=False, metadata=FIRST)
    output_schema: dict[str, Any] | None = field(default=None, metadata=SECOND)
    output_name: str = field(default="", metadata=SECOND)

    @property
    def needs(self) -> int:
        """The least contract of a worker that can execute the run."""
        return max((_SINCE[name] for name in self.to_json()), default=0)

    def to_json(self) -> dict[str, Any]:
        """Return the options that ask for something, as they are stored."""
        return {name: value for name in NAMES if (value := getattr(self, name))}

    @classmethod
    def from_json(cls, row: Mapping[str, Any] | None) -> "RunOptions":
        """Return the options of a row. What this version does not know is left out: see `needs`."""
        return cls(**{name: row[name] for name in NAMES if name in row}) if row else NO_OPTIONS


_SINCE: dict[str, int] = {each.name: each.metadata["since"] for each in fields(RunOptions)}
NAMES = tuple(_SINCE)
PAUSES = 2  # the contract of workers that leave a pending call to those who decide
CONTRACT = max(PAUSES, *_SINCE.values())
NO_OPTIONS = RunOptions()
