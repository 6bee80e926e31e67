"""How large a value may be that is stored with a run or a session. No setting changes these limits.

The size of JSON is that of its shortest text in UTF-8, in bytes. Lengths of text are in characters. Rows of an earlier
release can hold larger values: they are read, copied and made smaller like all others.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from worker.domain.text import ID_LIMIT, check_object, check_text, check_texts
from worker.errors import InvalidJson, ValueTooLarge

METADATA_BYTES = 64 * 1024  # of a run, of a session
STATE_BYTES = 1024 * 1024  # of a session
TAGS = 100  # of a session
TAG_LENGTH = ID_LIMIT
NAME_LENGTH = ID_LIMIT
DESCRIPTION_LENGTH = 4_096
ARGUMENTS = 50  # of an order; it has about ten
# What a run writes itself is cut, with a sentence: see `loop/calls.py`.
RESULT_LENGTH = 4 * 1024 * 1024  # of one tool's result
RESULTS_LENGTH = 32 * 1024 * 1024  # of all results of a run; those after it are cut to the next number
LEAST_RESULT_LENGTH = 64 * 1024
# What a model may send in one answer: see `models/answer.py` and `models/documents.py`.
REPLY_LENGTH = 4 * 1024 * 1024  # of a reply's text, and of the names and arguments of its calls
CALLS = 1_000
EVENT_BYTES = 8 * 1024 * 1024  # of one event, or of a body that is not a stream of events
STREAM_BYTES = 128 * 1024 * 1024  # of a whole answer, decompressed
COMPRESSED_BYTES = 16 * 1024 * 1024  # of an answer that is compressed, as it is sent
ERROR_BYTES = 256 * 1024  # of the body of an error; the rest is not read
COMPRESSED_ERROR_BYTES = 16 * 1024  # of one that is compressed: a thousand times as much after it, at most
DOCUMENTS = 1_000_000  # of one answer


def check_metadata(value: object, *, field: str) -> dict[str, Any]:
    """Return *value*, the metadata of a run or a session.

    Raises:
        InvalidType, InvalidText, InvalidJson, ValueTooLarge
    """
    stored = check_object(value, field=field)
    _check_size(stored, field=field, limit=METADATA_BYTES)
    return stored


def check_state(state: Mapping[str, Any], *, before: Mapping[str, Any], field: str) -> None:
    """Check the state of a session that changes from *before* to *state*. One that is too large can get smaller.

    Raises:
        InvalidJson, ValueTooLarge
    """
    size = json_size(state, field=field)
    if size > STATE_BYTES and size >= json_size(before, field=field):
        raise _too_large(field, f"{size:,} bytes as JSON", STATE_BYTES)


def check_tags(value: object, *, field: str) -> list[str]:
    """Return *value*, the tags of a session.

    Raises:
        InvalidType, InvalidText, ValueTooLarge
    """
    if isinstance(value, (list, tuple)) and len(value) > TAGS:
        raise _too_large(field, f"{len(value):,} entries", TAGS)
    tags = check_texts(value, field=field)
    for number, tag in enumerate(tags):
        _check_length(tag, field=f"{field}[{number}]", limit=TAG_LENGTH)
    return tags


def check_name(value: str, *, field: str) -> str:
    """Return *value*, a name, a tag or another short text.

    Raises:
        InvalidType, InvalidText, ValueTooLarge
    """
    return _check_length(check_text(value, field=field), field=field, limit=NAME_LENGTH)


def check_description(value: str, *, field: str) -> str:
    """Return *value*, the description of a session.

    Raises:
        InvalidType, InvalidText, ValueTooLarge
    """
    return _check_length(check_text(value, field=field), field=field, limit=DESCRIPTION_LENGTH)


def json_size(value: object, *, field: str) -> int:
    """Return the bytes of *value* as JSON. Raises InvalidJson for a number with more digits than can be written."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except ValueError:
        raise InvalidJson(field=field, problem="a value that cannot be written as JSON") from None
    return len(text) if text.isascii() else len(text.encode())


OF_SESSION: dict[str, Callable[..., Any]] = {
    "name": check_name,
    "description": check_description,
    "tags": check_tags,
    "metadata": check_metadata,
}
"""The checks of what a caller can change of a session, by field."""


def _check_size(value: object, *, field: str, limit: int) -> None:
    if value and (size := json_size(value, field=field)) > limit:
        raise _too_large(field, f"{size:,} bytes as JSON", limit)


def _check_length(text: str, *, field: str, limit: int) -> str:
    if len(text) > limit:
        raise _too_large(field, f"{len(text):,} characters", limit)
    return text


def _too_large(field: str, size: str, limit: int) -> ValueTooLarge:
    return ValueTooLarge(field=field, size=size, limit=f"{limit:,}")
