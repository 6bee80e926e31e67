"""The price list: what tokens cost. The file is read for each new batch, so a change needs no restart.

    {"support": {"input": 1.25, "cached_input": 0.125, "output": 10.0}, "*": {"input": 0.25, "output": 2.0}}

Prices are for a million tokens, by team; '*' is every other team. `cached_input` defaults to `input`.
"""

import json
import math
from pathlib import Path

from worker.domain import Price
from worker.errors import BatchInvalid

FIELDS = ("input", "cached_input", "output")


def read(path: Path | None) -> dict[str, Price]:
    """Return the prices in a file; without a file, there are none.

    Raises:
        BatchInvalid: the file cannot be read, or does not contain prices.
    """
    if path is None:
        return {}
    try:
        prices = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _invalid(f"cannot be read ({error.strerror}): correct the path, or unset it") from None
    except (ValueError, RecursionError):
        raise _invalid("is not JSON: correct the file, or unset it") from None
    if not isinstance(prices, dict):
        raise _invalid("is not an object: expected prices by team, such as {'*': {'input': 0.25, 'output': 2}}")
    return {team: _price(team, price) for team, price in prices.items()}


def _price(team: str, price: object) -> Price:
    fields = price if isinstance(price, dict) else {}
    if not {"input", "output"} <= set(fields) <= set(FIELDS) or not all(map(_is_price, fields.values())):
        expected = "expected 'input', 'output' and optionally 'cached_input', each a number from 0"
        raise _invalid(f"has no valid prices for {team!r}: {expected}")
    cached = fields["cached_input"] if "cached_input" in fields else fields["input"]
    return Price(fields["input"], cached, fields["output"])


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _invalid(problem: str) -> BatchInvalid:
    return BatchInvalid(field="The price list (TEAM_SESSIONS_PRICES)", problem=problem)
