"""Which text, ids and JSON are accepted. Callers of the library can send values of any type, so types are checked here.

Text from callers that a database or a model cannot take is refused. Text from models and tools is mended, since it
cannot be sent again.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from worker.errors import EmptyInput, InputTooLarge, InvalidIdentifier, InvalidJson, InvalidText, InvalidType

ID_LIMIT = 255
JSON_DEPTH = 64  # an answer that is nested deeper than 254 cannot be written any more
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_JSON = (str, int, float, dict, list, tuple, type(None))
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def check_text(text: str, *, field: str) -> str:
    """Return *text*.

    Raises:
        InvalidType: it is no text.
        InvalidText: it holds NUL (Postgres refuses it) or a lone surrogate (UTF-8 cannot encode it).
    """
    if not isinstance(text, str):
        raise wrong_type(text, field=field, expected="text")
    match = _UNSTORABLE.search(text)
    if match is None:
        return text
    raise InvalidText(field=field, problem="a NUL character" if match[0] == "\x00" else "a lone surrogate")


def check_texts(value: object, *, field: str) -> list[str]:
    """Return *value*, a list of texts.

    Raises:
        InvalidType, InvalidText
    """
    if not isinstance(value, (list, tuple)):
        raise wrong_type(value, field=field, expected="a list of texts")
    return [check_text(text, field=f"{field}[{n}]") for n, text in enumerate(value)]


def check_object(value: object, *, field: str) -> dict[str, Any]:
    """Return *value*, a JSON object.

    Raises:
        InvalidType, InvalidText, InvalidJson
    """
    if not isinstance(value, Mapping):
        raise wrong_type(value, field=field, expected="a JSON object: a dict")
    stored = dict(value)
    check_json(stored, field=field)
    return stored


def wrong_type(value: object, *, field: str, expected: str) -> InvalidType:
    """Return the error for an argument of another type. It names the type, not the value."""
    return InvalidType(field=field, found=f"of type {type(value).__name__}", expected=expected)


def check_id(value: str, *, field: str) -> str:
    """Return *value*, an id that a caller chose: 1 to 255 characters, none of them a control character.

    Raises:
        InvalidText, InvalidIdentifier
    """
    check_text(value, field=field)
    if not 1 <= len(value) <= ID_LIMIT:
        raise InvalidIdentifier(field=field, length=len(value), limit=ID_LIMIT)
    if _CONTROL.search(value):
        raise InvalidText(field=field, problem="a control character")
    return value


def check_input(text: str, *, limit: int) -> str:
    """Return *text*, the input of a run: not blank, at most *limit* bytes in UTF-8.

    Raises:
        EmptyInput, InputTooLarge, InvalidText
    """
    check_text(text, field="input")
    if not text.strip():
        raise EmptyInput()
    if (size := len(text.encode())) > limit:
        raise InputTooLarge(size=size, limit=limit, setting="TEAM_SESSIONS_MAX_INPUT_BYTES")
    return text


def check_json(value: object, *, field: str) -> None:
    """Check a JSON value of a caller, which is stored and returned unchanged.

    Raises:
        InvalidText: a string or a key in it could not be stored.
        InvalidJson: it holds NaN, an infinity or an object that is no JSON, or is nested deeper than can be written.
    """
    level: list[object] = [value]
    for _ in range(JSON_DEPTH):
        for item in level:
            if isinstance(item, str):
                check_text(item, field=field)
            elif isinstance(item, float) and not math.isfinite(item):
                raise InvalidJson(field=field, problem="a number that is not finite")
            elif not isinstance(item, _JSON):
                raise InvalidJson(field=field, problem=f"a value of type {type(item).__name__}")
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise InvalidJson(field=field, problem=f"more than {JSON_DEPTH} levels of nesting")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, (list, tuple)) else []


def mend(text: str) -> str:
    """Return *text* with what cannot be stored replaced by U+FFFD. Two halves of a character become one again."""
    if _UNSTORABLE.search(text) is None:  # nearly always
        return text
    return _UNSTORABLE.sub("\ufffd", _HALVES.sub(_whole, text))


def _whole(halves: re.Match[str]) -> str:
    return halves[0].encode("utf-16", "surrogatepass").decode("utf-16")
