"""What tokens cost: a file of the owner's, read whenever a batch is ordered, so that a change of it needs no restart.

    {"support": {"input": 1.25, "cached_input": 0.125, "output": 10.0}, "*": {"input": 0.25, "output": 2.0}}

Prices are of a million tokens, by team; '*' is every other one. Without `cached_input`, cached tokens cost like others.
"""

import json
import math
from pathlib import Path

from worker.domain.batch import Price
from worker.errors import BatchInvalid

FIELDS = ("input", "cached_input", "output")


def read(path: Path | None) -> dict[str, Price]:
    """Return the prices that a file holds; none without a file.

    Raises:
        BatchInvalid: it cannot be read, or says something else than prices.
    """
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(f"cannot be read ({error.strerror}): mend its path, or unset it") from None
    except (ValueError, RecursionError):
        raise _wrong("is not JSON: mend the file, or unset it") from None
    if not isinstance(found, dict):
        raise _wrong("is no object: expected prices by team, such as {'*': {'input': 0.25, 'output': 2}}")
    return {team: _price(team, said) for team, said in found.items()}


def _price(team: str, said: object) -> Price:
    named = said if isinstance(said, dict) else {}
    if not {"input", "output"} <= set(named) <= set(FIELDS) or not all(map(_is_price, named.values())):
        expected = "expected 'input', 'output' and, if they differ, 'cached_input', each a number from 0 on"
        raise _wrong(f"is wrong about {team!r}: {expected}")
    return Price(**{"cached_input": named["input"], **named})


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _wrong(problem: str) -> BatchInvalid:
    return BatchInvalid(field="The price list (TEAM_SESSIONS_PRICES)", problem=problem)
