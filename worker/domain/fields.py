"""How dataclasses describe their fields, so that the API can take them as bodies and answer with them as they are.

Times are RFC 3339 in UTC with six decimals.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, GetPydanticSchema, PlainSerializer, WithJsonSchema
from pydantic_core.core_schema import literal_schema, no_info_after_validator_function

from worker.clock import rfc3339
from worker.domain.text import ID_LIMIT, JSON_DEPTH


def field(description: str, *examples: Any, schema: dict[str, Any] | None = None) -> Any:
    """Return the description of a field, with examples of its values, and what else its JSON schema says."""
    return Field(description=description, examples=list(examples) or None, json_schema_extra=schema)


def in_place(enum: type[StrEnum]) -> GetPydanticSchema:
    """Return the annotation of an *enum* whose values the API describes in place, not as a type with a name."""
    schema = no_info_after_validator_function(enum, literal_schema([member.value for member in enum]))
    return GetPydanticSchema(lambda _source, _handler: schema)


def check_rfc3339(value: object) -> object:
    """Return *value*: None, a time, or its text. Pydantic alone would take numbers, and text with a number, too."""
    if (isinstance(value, str) and not _RFC3339.fullmatch(value)) or isinstance(value, (int, float)):
        raise ValueError("expected an RFC 3339 time with an offset, such as 2030-01-31T12:00:00Z")
    return value


def _without_defaults(schema: dict[str, Any]) -> None:
    for properties in schema["properties"].values():
        properties.pop("default", None)


# The JSON schema of what `domain.text` checks. It only describes: each violation has its own error code.
TEXT: dict[str, Any] = {"pattern": r"^[^\x00]*$"}
INPUT: dict[str, Any] = {"minLength": 1, "pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"}
ID: dict[str, Any] = {"minLength": 1, "maxLength": ID_LIMIT, "pattern": r"^[^\x00-\x1f\x7f]*$"}

HIDDEN = Field(exclude=True)  # a field that answers leave out
# An answer has all its fields, also those with a default in Python.
ANSWER = ConfigDict(json_schema_serialization_defaults_required=True, json_schema_extra=_without_defaults)

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_TIME = {"type": "string", "format": "date-time", "examples": ["2026-03-01T09:30:00.123456Z"]}
Time = Annotated[datetime, PlainSerializer(rfc3339, str), WithJsonSchema(_TIME)]
RunId = Annotated[str, field("ID of the run. IDs sort by creation time.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80")]
TeamId = Annotated[str, field("ID of the team.", "support")]
UserId = Annotated[str, field("ID of the user; '' if it was accepted without a user.", "u-7", "")]
SessionId = Annotated[str, field("ID of the session, unique per user.", "s-42")]
Metadata = Annotated[
    dict[str, Any], field(f"Your own JSON object, stored unchanged; at most {JSON_DEPTH} levels deep.", {"ticket": 17})
]
