"""Which text and which ids are taken.

Text from callers is refused where a database or a model could not take it; text from models and tools, which nobody
can send again, is mended instead.
"""

import json
import re

from worker.errors import EmptyInput, InputTooLarge, InvalidIdentifier, InvalidText

ID_LIMIT = 255
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def check_text(text: str, *, field: str) -> str:
    """Return *text*.

    Raises:
        InvalidText: it holds NUL (Postgres refuses it) or a lone surrogate (UTF-8 cannot spell it).
    """
    found = _UNSTORABLE.search(text)
    if found is None:
        return text
    raise InvalidText(field=field, found="a NUL character" if found[0] == "\x00" else "a lone surrogate")


def check_id(value: str, *, field: str) -> str:
    """Return *value*, an id that a caller chose: 1 to 255 characters, none of them a control character.

    Raises:
        InvalidText, InvalidIdentifier
    """
    check_text(value, field=field)
    if not 1 <= len(value) <= ID_LIMIT:
        raise InvalidIdentifier(field=field, length=len(value), limit=ID_LIMIT)
    if _CONTROL.search(value):
        raise InvalidText(field=field, found="a control character")
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
    """Check every string inside a JSON value as `check_text` does."""
    escaped = json.dumps(value, ensure_ascii=False).replace(r"\\", "")  # so that a backslash before u0000 is no escape
    check_text(escaped.replace(r"\u0000", "\x00"), field=field)


def mend(text: str) -> str:
    """Return *text* with what cannot be stored replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)
