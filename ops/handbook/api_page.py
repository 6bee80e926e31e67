"""The pages of the HTTP API, made from the application: one for people, one for programs that generate clients."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api_stub.app import make_app
from worker.domain import bounds
from worker.settings import Settings
from worker.store import pages

Schema = dict[str, Any]


def described() -> Schema:
    """Return the answer of `/openapi.json`; it does not depend on the environment."""
    return make_app(Settings.model_construct(data_dir=Path("unused"))).openapi()


def openapi_page() -> str:
    """Return the description as JSON, with one line per route and per object, so that diffs are short."""
    schema = described()
    paths = [f"  {_json(path)}: {_json(methods)}" for path, methods in schema.pop("paths").items()]
    schemas = [f"   {_json(name)}: {_json(item)}" for name, item in schema["components"].pop("schemas").items()]
    rest = [f" {_json(name)}: {_json(value)}" for name, value in schema.items() if name != "components"]
    parts = [f'  "schemas": {{\n{_lines(schemas)}\n  }}']
    parts += [f"  {_json(name)}: {_json(value)}" for name, value in schema["components"].items()]
    components, all_paths = f' "components": {{\n{_lines(parts)}\n }}', f' "paths": {{\n{_lines(paths)}\n }}'
    return f"{{\n{_lines([*rest, all_paths, components])}\n}}\n"


def page() -> str:
    """Return the routes with their parameters and answers, then the objects with their fields."""
    schema = described()
    routes = "".join(_route(*operation) for operation in _operations(schema))
    objects = "".join(_object(name, item) for name, item in schema["components"]["schemas"].items())
    return (
        "# The HTTP API\n\n"
        "Every request except the probes needs `Authorization: Bearer KEY`. Any of them can be answered with 401, 403, "
        "429 or 503; an error is a [Problem](#problem), whose `code` is listed in [errors](errors.md). "
        "A query parameter that a route does not have is refused with 422; only the probes and `/metrics` ignore it. "
        f"A page of a list has about {pages.PAGE_BYTES >> 20} MiB at most, so it can have fewer entries than `limit`: "
        "go on until `next_cursor` is null. "
        f"Metadata has at most {bounds.METADATA_BYTES >> 10} KiB as JSON in UTF-8, and a session's state "
        f"{bounds.STATE_BYTES >> 20} MiB; a name and a tag {bounds.NAME_LENGTH} characters, a description "
        f"{bounds.DESCRIPTION_LENGTH:,}; a session has at most {bounds.TAGS} tags. "
        "[Events](events.md) lists the events that a run's stream sends. For programs: [`openapi.json`]"
        "(openapi.json), which a running API also serves at `/openapi.json`.\n\n"
        f"## Routes\n\n{routes}## Objects\n{objects}"
    )


def _operations(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _route(method: str, path: str, operation: Schema) -> str:
    """Return one route: its scope, description, parameters, body and answers."""
    scopes = [scope for option in operation.get("security", []) for scope in option["key"]]
    needed = " and ".join(f"`{scope}`" for scope in scopes)
    key = f"scope {needed}" if scopes else "any key" if "security" in operation else "no key"
    lines = [f"### `{method} {path}`\n", f"*{key}.* {operation['description']}\n"]
    lines += [
        f"- `{parameter['name']}` ({parameter['in']}): {parameter['description']}"
        for parameter in operation.get("parameters", [])
    ]
    if body := operation.get("requestBody"):
        lines.append(f"- body: {', '.join(_type(content['schema']) for content in body['content'].values())}")
    for status, answer in operation["responses"].items():
        if status < "400":
            kinds = [_type(c["schema"]) if c.get("schema") else f"`{n}`" for n, c in answer.get("content", {}).items()]
            description = "" if answer["description"] == "Successful Response" else f": {answer['description']}"
            lines.append(f"- answers {status} {', '.join(kinds)}{description}")
    refusals = [status for status in operation["responses"] if status >= "400"]
    lines += [f"- refuses with {', '.join(refusals)}"] if refusals else []
    return "\n".join(lines) + "\n\n"


def _object(name: str, schema: Schema) -> str:
    head = f"\n### {name}\n\n{schema.get('description', '')}\n"
    if "enum" in schema:
        return f"{head}\nOne of {', '.join(f'`{value}`' for value in schema['enum'])}.\n"
    required = schema.get("required", [])
    rows = [
        f"| `{name}`{'' if name in required else ' (optional)'} | {_type(field)} | {field.get('description', '')} |"
        for name, field in schema.get("properties", {}).items()
    ]
    return f"{head}\n| field | | |\n|---|---|---|\n" + "\n".join(rows) + "\n" if rows else head


def _type(schema: Schema) -> str:
    """Return the type of a field in a word or two, with a link if it is an object of the API."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for kind in ("anyOf", "oneOf", "allOf"):
        if kind in schema:
            return " or ".join(_type(option) for option in schema[kind])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    return str(schema.get("format") or schema.get("type") or "anything")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _lines(parts: list[str]) -> str:
    return ",\n".join(parts)
