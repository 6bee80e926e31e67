"""How fields that a provider adds are joined from pieces, and which of them can be stored."""

from typing import Any

import pytest

from worker.models import extras


def joined(*pieces: Any) -> Any:
    """The pieces of one field, merged in order."""
    merged: dict[str, Any] = {}
    for piece in pieces:
        merged = extras.merge(merged, {"field": piece})
    return merged["field"]


def entry(text: str, index: int | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **({} if index is None else {"index": index}), **more}


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["Look ", "at ", "at "], "Look at at "),
        (["x" * 40, "x" * 40], "x" * 40),
        ([["a"], ["b", "c"]], ["a", "b", "c"]),
        ([[entry("a", 0)], [entry("b", 0)], [entry("c", 1)]], [entry("ab", 0), entry("c", 1)]),
        ([[entry("a")], [entry("b")]], [entry("a"), entry("b")]),
        ([[entry("a", 0)], [{"index": 0, "signature": "s"}]], [entry("a", 0, signature="s")]),
        ([{"google": {"a": "x"}}, {"google": {"b": "y"}}, {"google": {"a": "z"}}], {"google": {"a": "xz", "b": "y"}}),
        ([{"a": "x"}, {"a": None}], {"a": "x"}),
        ([1, 2], 2),
        (["text", ["other"]], ["other"]),
    ],
)
def test_pieces_are_joined_as_they_arrive(pieces: list[Any], whole: Any) -> None:
    """Strings are concatenated, lists extended or matched by index, objects merged."""
    assert joined(*pieces) == whole


def test_known_fields_and_nulls_are_no_extra() -> None:
    """What the format has is stored elsewhere."""
    delta = {"role": "assistant", "content": "hi", "refusal": None, "audio": None, "function_call": None, "index": 0}

    assert extras.unknown({**delta, "type": "x", "reasoning": ""}, extras.OF_MESSAGE) == {"reasoning": ""}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "x" * (extras.LIMIT + 1), [[[]]] * 400_000])
def test_what_cannot_be_stored_is_dropped(value: Any) -> None:
    """A database takes no NaN, and an extra has a limit."""
    assert extras.storable({"field": value}, model="m") is None


def test_deep_nesting_is_dropped() -> None:
    """An answer of the export could not be written."""
    deep: Any = "x"
    for _ in range(2_000):
        deep = [deep]

    assert extras.storable({"field": deep}, model="m") is None


def test_text_that_no_database_stores_is_mended() -> None:
    """As in every other text of a model."""
    assert extras.storable({"a\x00": ["\ud800"]}, model="m") == {"a\ufffd": ["\ufffd"]}
