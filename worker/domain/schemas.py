"""JSON schemas that come from outside: of answers, of arguments, of tools that are no Python functions."""

import json
import re
from itertools import islice
from typing import Any, NoReturn

import jsonschema
from jsonschema.exceptions import SchemaError
from referencing.exceptions import Unresolvable

SCHEMA_BYTES = 64 * 1024
SCHEMA_LEVELS = 64
LISTED = 5  # problems that are named
_LENGTH = 200  # of one problem


def mistake_in(schema: object) -> str | None:
    """Return why *schema* cannot be used as a JSON schema; None: it can. References lead inside it only."""
    if not isinstance(schema, dict):
        return f"it is of type {type(schema).__name__}; expected an object"
    try:
        length = len(json.dumps(schema, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError):
        return "it is no JSON"
    if length > SCHEMA_BYTES:
        return f"it has {length:,} bytes; {SCHEMA_BYTES:,} is the most"
    if _levels(schema) > SCHEMA_LEVELS:
        return f"it has more than {SCHEMA_LEVELS} levels"
    for reference in _references(schema):
        if not reference.startswith("#"):
            return "a $ref in it leads outside; only '#/…' is followed"
    try:
        _VALIDATOR.check_schema(schema)
    except SchemaError as error:
        return f"{_path(error.absolute_path)}: {_shortened(error.message)}"
    return None


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of a type as providers take it for strict answers: no other properties, and all of them given."""
    made = json.loads(json.dumps(schema))
    here: list[Any] = [made]
    while here:
        each = here.pop()
        here += _inside(each)
        if isinstance(each, dict) and isinstance(each.get("properties"), dict):
            each.setdefault("additionalProperties", False)
            each["required"] = list(each["properties"])
    return dict(made)


def is_strict(schema: object) -> bool:
    """Tell whether each object in a schema names all its properties as required, and takes no others."""
    here: list[Any] = [schema]
    while here:
        each = here.pop()
        here += _inside(each)
        properties = each.get("properties") if isinstance(each, dict) else None
        if isinstance(properties, dict):
            all_given = set(each.get("required", ())) == set(properties)
            if each.get("additionalProperties") is not False or not all_given:
                return False
    return True


def problems(schema: dict[str, Any], value: object) -> list[str]:
    """Return what in *value* does not fit *schema*: the first few as `path: why`. They can quote the value."""
    return [f"{path}: {_shortened(message)}" for path, _rule, message in _misfits(schema, value)]


def paths(schema: dict[str, Any], value: object) -> list[str]:
    """Return where *value* does not fit *schema*, without a word of the value: `path (rule)`."""
    return list(dict.fromkeys(f"{path} ({rule})" for path, rule, _message in _misfits(schema, value)))


def _misfits(schema: dict[str, Any], value: object) -> list[tuple[str, str, str]]:
    """Return the first places where *value* does not fit: path, rule and message of each."""
    errors = _VALIDATOR(schema).iter_errors(value)
    try:
        return [(_path(e.absolute_path), str(e.validator), e.message) for e in islice(errors, LISTED)]
    except (Unresolvable, RecursionError) as error:
        return [("(all)", type(error).__name__, "it cannot be checked")]


def parse_answer(text: str) -> Any:
    """Return the JSON value that a model's answer is, without the fence that some put around it; None: it is none.

    NaN and infinities are no JSON.
    """
    fenced = _FENCED.match(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_FENCED = re.compile(r"\A```[\w-]*\s*\n(.*)\n\s*```\Z", re.DOTALL)
_VALIDATOR = jsonschema.Draft202012Validator


def _levels(value: object) -> int:
    """Return how deeply *value* is nested, without recursion."""
    levels, here = 0, [value]
    while here:
        levels += 1
        here = [inside for each in here for inside in _inside(each)]
    return levels


def _references(schema: dict[str, Any]) -> list[str]:
    found: list[str] = []
    here: list[Any] = [schema]
    while here:
        each = here.pop()
        here += _inside(each)
        if isinstance(each, dict):
            found += [str(each[name]) for name in ("$ref", "$dynamicRef") if isinstance(each.get(name), str)]
    return found


def _inside(value: object) -> list[object]:
    """Return the objects and lists directly inside *value*."""
    children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [child for child in children if isinstance(child, (dict, list))]


def _path(path: Any) -> str:
    return ".".join(map(str, path)) or "(all)"


def _shortened(text: str) -> str:
    return text if len(text) <= _LENGTH else text[:_LENGTH] + "…"
