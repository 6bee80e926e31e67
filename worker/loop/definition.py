"""What a team is, once its options were checked: the values that the loop works from."""

import hashlib
import json
from dataclasses import dataclass, replace

from worker.domain.chat import ChatModel
from worker.loop.tools import Tool


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. None: as the settings of the worker say. `tokens` None: no limit."""

    turns: int | None = None
    tool_calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """A team as workers execute it. `model` None: the model that the settings name."""

    id: str
    name: str
    model: ChatModel | None
    instructions: tuple[str, ...]
    tools: tuple[Tool, ...]
    add_history_to_context: bool
    num_history_runs: int
    limits: Limits
    version: str = ""

    def with_version(self, version: str | None) -> "Definition":
        """Return this definition with a version: the given one, or a hash of what decides its answers."""
        return replace(self, version=version or self._fingerprint())

    def _fingerprint(self) -> str:
        parts = [
            self.id,
            self.name,
            self.model.id if self.model else None,
            self.instructions,
            [[t.name, t.description, t.parameters, t.repeatable] for t in self.tools],
            [self.add_history_to_context, self.num_history_runs],
            [self.limits.turns, self.limits.tool_calls, self.limits.tokens, self.limits.seconds],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
