"""What a provider adds to a reply, and wants back with it: collected from chunks, stored, sent again.

It is opaque. Text that comes in pieces is joined, entries of lists are matched by their `index`. Decision 0023.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from worker.domain import mend
from worker.domain.text import JSON_DEPTH
from worker.observe import logs

log = logs.get(__name__)

LIMIT = 1024 * 1024  # characters of one message's extra as JSON
# These name or type an entry, and come again with each of its pieces.
IDENTITY = {"type", "id", "index", "format", "name", "role", "object", "status", "encoding", "mime_type", "version"}
REPEATED = 32  # characters: two equal pieces of this length are one piece that was repeated
OF_MESSAGE = {"role", "content", "refusal", "tool_calls", "function_call", "index", "type"}
OF_CALL = {"index", "id", "type", "function", "name", "arguments"}
OF_FUNCTION = {"name", "arguments"}


class Room:
    """How much of a provider's fields one answer may have. Once it has more, all of them are dropped."""

    def __init__(self) -> None:
        self._left = LIMIT
        self.is_used_up = False

    def takes(self, fields: Mapping[str, Any]) -> bool:
        """Tell whether *fields* of the next document still fit."""
        if not self.is_used_up:
            try:
                self._left -= len(json.dumps(_mended(dict(fields), JSON_DEPTH), ensure_ascii=False))
            except (ValueError, RecursionError):
                self._left = -1
            self.is_used_up = self._left < 0
        return not self.is_used_up


def unknown(fields: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the fields that are not *known* and not null."""
    return {name: fields[name] for name in fields.keys() - known if fields[name] is not None}


def merge(old: Any, new: Any) -> Any:
    """Return *old* with the next piece *new* added."""
    if isinstance(old, str) and isinstance(new, str):
        return old if old == new and len(new) >= REPEATED else old + new
    if isinstance(old, dict) and isinstance(new, dict):
        merged = dict(old)
        for name, value in new.items():
            if value is not None:
                merged[name] = merge(old[name], value) if name in old and name not in IDENTITY else value
        return merged
    if isinstance(old, list) and isinstance(new, list):
        return _merge_lists(old, new)
    return new


def _merge_lists(old: list[Any], new: list[Any]) -> list[Any]:
    merged = list(old)
    for entry in new:
        index = entry.get("index") if isinstance(entry, dict) else None
        same = (n for n, before in enumerate(merged) if isinstance(before, dict) and before.get("index") == index)
        position = None if index is None else next(same, None)
        if position is None:
            merged.append(entry)
        else:
            merged[position] = merge(merged[position], entry)
    return merged


def storable(extra: dict[str, Any], *, model: str) -> dict[str, Any] | None:
    """Return *extra* as it can be stored; None, with a line in the log, if it cannot."""
    try:
        mended = _mended(extra, JSON_DEPTH)
        size = len(json.dumps(mended, ensure_ascii=False))
    except ValueError:
        log.warning("what a provider added to a reply is dropped: it cannot be stored as JSON", model=model)
        return None
    if size > LIMIT:
        log_too_large(model)
        return None
    assert isinstance(mended, dict)
    return mended


def log_too_large(model: str) -> None:
    """Log that the fields of an answer are dropped."""
    log.warning("what a provider added to a reply is dropped: it is too large", model=model)


def _mended(value: Any, depth: int) -> Any:
    if not depth or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, list):
        return [_mended(entry, depth - 1) for entry in value]
    if isinstance(value, dict):
        return {mend(name): _mended(entry, depth - 1) for name, entry in value.items()}
    return value
