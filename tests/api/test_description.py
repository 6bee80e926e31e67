"""The description of the API is complete: every field, every parameter, every answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_stub.app import make_app
from worker.settings import Settings

OPEN = {"/healthz", "/readyz"}
TELLS_ITSELF = ("enum", "const", "$ref", "allOf")  # what a field can be stands in its type
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """What `/openapi.json` answers."""
    return make_app(Settings(data_dir=Path("unused"))).openapi()


def operations(described: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def schemas(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object that is described, problems too."""
    yield from described["components"]["schemas"].items()
    for method, path, operation in operations(described):
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                if "properties" in content.get("schema", {}):
                    yield f"{method} {path} {status}", content["schema"]


def test_every_field_is_described_and_has_an_example(described: dict[str, Any]) -> None:
    """In its own words, and not only by its type; lists of things that are described themselves need no example."""
    lacking = []
    for name, schema in schemas(described):
        assert schema.get("description"), name
        for field, spec in schema.get("properties", {}).items():
            ways = [spec, *spec.get("anyOf", [])]
            example = any("examples" in way or any(kind in way for kind in TELLS_ITSELF) for way in ways)
            if not spec.get("description") or not (example or "$ref" in spec.get("items", {})):
                lacking.append(f"{name}.{field}")

    assert lacking == []
    assert {"Run", "RunPage", "Session", "SessionPage", "Message", "Team"} <= set(described["components"]["schemas"])


def test_every_parameter_is_described_and_has_an_example(described: dict[str, Any]) -> None:
    """Headers are spelled as people know them."""
    lacking = []
    for method, path, operation in operations(described):
        for parameter in operation.get("parameters", []):
            spec = parameter["schema"]
            ways = [spec, *spec.get("anyOf", [])]
            example = any("examples" in way or any(kind in way for kind in TELLS_ITSELF) for way in ways)
            if not parameter.get("description") or not example:
                lacking.append(f"{method} {path} {parameter['name']}")
            assert parameter["in"] != "header" or parameter["name"].istitle() or "ID" in parameter["name"]

    assert lacking == []


def test_every_answer_is_described(described: dict[str, Any]) -> None:
    """Each route says what it answers, and that a refusal is a problem; the framework's own errors stand nowhere."""
    for method, path, operation in operations(described):
        where, answers = f"{method} {path}", operation["responses"]
        assert operation["description"], where
        assert all(answer["description"] for answer in answers.values()), where
        if path in OPEN:
            assert "security" not in operation, where
            continue
        assert {"401", "403", "429", "503"} < set(answers), where
        names_one = any(f"{{{one}_id}}" in path for one in ("run", "session", "batch"))  # a user is never absent
        assert ("404" in answers) == (names_one or method == "POST"), where
        assert ("422" in answers) == bool(operation.get("parameters")), where
        assert ("413" in answers) == ("requestBody" in operation), where
        refusals = [answer["content"] for status, answer in answers.items() if status >= "400"]
        assert all(list(content) == ["application/problem+json"] for content in refusals), where
        good = [answer for status, answer in answers.items() if status < "400"]
        assert len(good) == (2 if where == "POST /v1/batches" else 1), where  # accepted, or only estimated
        assert all(answer.get("content") for answer in good) or method == "DELETE", where
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_events_are_described_as_a_stream(described: dict[str, Any]) -> None:
    """And a run that was accepted with its place."""
    assert list(described["paths"]["/v1/runs/{run_id}/events"]["get"]["responses"]["200"]["content"]) == [
        "text/event-stream"
    ]
    assert "Location" in described["paths"]["/v1/runs"]["post"]["responses"]["202"]["headers"]
