"""The model calls and tokens of a run."""

import math
from dataclasses import dataclass
from typing import Annotated

from worker.domain.fields import ANSWER, field

MOST_TOKENS = 100_000_000  # of one call


def tokens(count: object) -> int:
    """Return a number of tokens: servers and models send text, floats, null, and numbers of any size."""
    try:
        number = float(count)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError, OverflowError):
        return MOST_TOKENS if isinstance(count, int) and count > 0 else 0
    return min(int(number), MOST_TOKENS) if math.isfinite(number) and number > 0 else 0


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

    def of_one_call(self) -> "Usage":
        """Return this usage as numbers that can be added and stored, whatever a model has put into it."""
        sent, received = tokens(self.input_tokens), tokens(self.output_tokens)
        return Usage(min(tokens(self.model_calls), 1), sent, min(tokens(self.cached_input_tokens), sent), received)

    @property
    def tokens(self) -> int:
        """The sum of input and output tokens."""
        return self.input_tokens + self.output_tokens
