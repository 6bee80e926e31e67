"""The client's types, from the API's description and the table of events: one TypedDict for each schema."""

import json
from typing import Any

from ops.handbook.api_page import described
from worker.domain.event import EVENT_TYPES

Schema = dict[str, Any]

HEADER = '''"""The shapes of the API, as the client returns them: plain dictionaries, typed.

`ops/handbook/api.md` explains each field. Times are RFC 3339 in UTC with six decimals; positions and seqs count from 1.
Made by `python -m ops.handbook.generate`. Do not edit.
"""

from typing import Any, Literal, NotRequired, TypedDict

'''
NAMES = (
    "RunError",
    "Usage",
    "PendingCall",
    "Decision",
    "Decisions",
    "Run",
    "ToolCall",
    "Message",
    "SessionSummary",
    "Session",
    "Refresh",
    "Requested",
    "Erased",
    "Summary",
    "Why",
    "Team",
    "Selection",
    "Limits",
    "Budget",
    "BatchRun",
    "Estimate",
    "Counts",
    "Batch",
    "Item",
)
WIDTH = 120
PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def page() -> str:
    """Return the module."""
    schemas = described()["components"]["schemas"]
    literals = {
        "EventType": [event_type.name for event_type in EVENT_TYPES],
        "Status": schemas["Status"]["enum"],
        "PendingKind": schemas["PendingKind"]["enum"],
        "DecidedBy": schemas["DecidedBy"]["enum"],
        "BatchKind": schemas["Kind"]["enum"],
        "ItemStatus": schemas["Item"]["properties"]["status"]["enum"],
    }
    aliases = {_literal(values): name for name, values in literals.items()}
    parts = [HEADER, *(_alias(name, text) for text, name in aliases.items())]
    for name in NAMES:
        schema = schemas[name]
        required = schema.get("required", ())
        parts.append(f"\n\nclass {name}(TypedDict{'' if required else ', total=False'}):{_comment(schema)}\n")
        for field, described_field in schema["properties"].items():
            type = _type(described_field, schemas, aliases)
            optional = required and field not in required
            parts.append(f"    {field}: {f'NotRequired[{type}]' if optional else type}\n")
    return "".join(parts)


def _comment(schema: Schema) -> str:
    sentence = schema["description"].partition(". ")[0].removesuffix(".")
    return f"  # {sentence}."


def _alias(name: str, text: str) -> str:
    """Return an alias as `ruff format` writes it."""
    line = f"{name} = {text}"
    if len(line) <= WIDTH:
        return f"{line}\n"
    values = text.removeprefix("Literal[").removesuffix("]")
    if len(values) + 4 <= WIDTH:
        return f"{name} = Literal[\n    {values}\n]\n"
    lines = "".join(f"    {value},\n" for value in values.split(", "))
    return f"{name} = Literal[\n{lines}]\n"


def _type(schema: Schema, schemas: Schema, aliases: dict[str, str]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if name in NAMES else _type(schemas[name], schemas, aliases)
    if "anyOf" in schema:
        return " | ".join(_type(part, schemas, aliases) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        text = _literal(schema.get("enum") or [schema["const"]])
        return aliases.get(text, text)
    if "type" not in schema:
        return "Any"
    if schema["type"] == "array":
        return f"list[{_type(schema['items'], schemas, aliases)}]"
    return "dict[str, Any]" if schema["type"] == "object" else PLAIN[schema["type"]]


def _literal(values: list[str]) -> str:
    return f"Literal[{', '.join(json.dumps(value) for value in values)}]"
