"""How much of a model's context a text takes, estimated without the model's tokenizer.

The unit is a character of plain English, of which about `CHARS_PER_TOKEN` make a token. Other text costs more for each
character: Chinese, Japanese and Korean take about a token, emoji more, and long words without spaces, such as base64,
about half a token.
"""

import re
from collections.abc import Callable

CHARS_PER_TOKEN = 4  # an estimate: only the provider knows how it counts
LONG_WORD = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
FEW_SPACES = 12  # a text with less than one space in this many characters is searched for long words


def weight(text: str) -> int:
    """Return how many characters of plain English cost as many tokens as *text*."""
    size = width(text)
    if len(text) >= 32 and (text.count(" ") + text.count("\n")) * FEW_SPACES < len(text):
        size += sum(match.end() - match.start() for match in LONG_WORD.finditer(text))
    return size


def width(text: str) -> int:
    """Return the weight of *text* by its characters alone: long words count like others."""
    if text.isascii():
        return len(text)
    ascii_size = len(text.encode("ascii", "ignore"))
    return ascii_size + (len(text.encode("utf-8", "surrogatepass")) - ascii_size) * 4 // 3


def begin_of(text: str, limit: int, *, measure: Callable[[str], int] = weight) -> str:
    """Return the longest beginning of *text* whose weight, or another *measure*, is about *limit* and not more."""
    limit = max(0, limit)
    if (whole := measure(text)) <= limit:
        return text
    count = len(text) * limit // whole
    while (over := measure(text[:count])) > limit and count:
        count = min(count - 1, count * limit // over)
    return text[:count]
