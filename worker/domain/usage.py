"""What a run used of its models."""

from dataclasses import dataclass
from typing import Annotated

from worker.domain.fields import ANSWER, field


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run used of its models."""

    __pydantic_config__ = ANSWER

    model_calls: Annotated[int, field("Model calls whose reply was written.", 2)] = 0
    input_tokens: Annotated[int, field("Tokens sent.", 1250)] = 0
    cached_input_tokens: Annotated[int, field("The part of `input_tokens` that the provider had cached.", 1024)] = 0
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
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens
