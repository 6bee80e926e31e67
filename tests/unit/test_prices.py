"""The owner's price list: what it says, and what is said of one that cannot be used."""

from pathlib import Path

import pytest

from worker.batches import prices
from worker.domain import Price, Usage
from worker.errors import BatchInvalid


def listed(directory: Path, text: str) -> Path:
    file = directory / "prices.json"
    file.write_text(text, encoding="utf-8")
    return file


def test_prices_are_by_team_and_without_a_file_there_are_none(tmp_path: Path) -> None:
    """Cached tokens cost what others do, where nothing else is said; a million tokens cost what the list says."""
    file = listed(tmp_path, '{"a": {"input": 2, "cached_input": 0.5, "output": 8}, "*": {"input": 1, "output": 4}}')

    found = prices.read(file)

    assert prices.read(None) == {}
    assert found == {"a": Price(2, 0.5, 8), "*": Price(1, 1, 4)}
    assert found["a"].of(Usage(3, 1_000_000, 400_000, 500_000)) == 0.6 * 2 + 0.4 * 0.5 + 0.5 * 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not an object"),
        ('{"a": 1}', "has no valid prices for 'a'"),
        ('{"a": {"input": 1}}', "has no valid prices for 'a'"),
        ('{"a": {"input": 1, "output": 1, "inputs": 1}}', "has no valid prices for 'a'"),
        ('{"*": {"input": true, "output": 1}}', "has no valid prices for '*'"),
        ('{"*": {"input": -1, "output": 1}}', "has no valid prices for '*'"),
        ('{"*": {"input": NaN, "output": 1}}', "has no valid prices for '*'"),
        ('{"*": {"input": "1", "output": 1}}', "has no valid prices for '*'"),
    ],
)
def test_a_list_that_says_something_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """With the name of the setting, so that its owner knows what to mend."""
    with pytest.raises(BatchInvalid) as refused:
        prices.read(listed(tmp_path, text))

    assert "TEAM_SESSIONS_PRICES" in refused.value.message
    assert told in refused.value.message


def test_a_list_that_is_away_is_refused(tmp_path: Path) -> None:
    """A path that leads nowhere, or to a directory."""
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(BatchInvalid, match="cannot be read"):
            prices.read(path)
