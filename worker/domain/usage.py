"""The model calls and tokens of a run."""

from dataclasses import dataclass
from typing import Annotated

from worker.domain.fields import ANSWER, field


@dataclass(frozen=True, slots=True)
class Usage:
    """The model calls and tokens of a run."""

    __pydantic_config__ = ANSWER

    model_calls: Annotated[int, field("Model calls whose reply was committed.", 2)] = 0
    input_tokens: Annotated[int, field("Tokens sent.", 1250)] = 0
    cached_input_tokens: Annotated[int, field("Part of `input_tokens`: read from the provider's cache.", 1024)] = 0
    output_tokens: Annotated[int, field("Tokens received.", 310)] = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.model_calls + other.model_calls,
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.output_tokens + other.output_tokens,
        )

    @property
    def tokens(self) -> int:
        """The sum of input and output tokens."""
        return self.input_tokens + self.output_tokens
