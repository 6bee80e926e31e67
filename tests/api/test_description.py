"""The description of the API is complete: every field, every parameter, every answer."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api_stub.app import make_app
from api_stub.client import calls
from api_stub.client.core import Listing, Request, Waiting
from api_stub.client.streams import Lines, Watch
from api_stub.routes import batches, health, pending, runs, sessions, teams, users
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


def test_the_query_parameters_that_are_accepted_are_those_that_are_described(described: dict[str, Any]) -> None:
    """Others are refused, from the list that the route itself has."""
    accepted = {
        (method, route.path_format): {parameter.alias for parameter in route.dependant.query_params}
        for module in (batches, health, pending, runs, sessions, teams, users)
        for route in module.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }

    assert len(accepted) > 20
    assert accepted == {
        (method, path): {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
        for method, path, operation in operations(described)
    }


ARGUMENTS = {"version": 2, "rebuild": True, "wait_s": 1.0, "timeout_s": 1.0, "first": 1, "role": "tool"}
IN_BODIES = ("not_before", "metadata", "select", "session_ids", "run_ids", "requests", "limits", "budget", "tags")
CALLS = [call for call in vars(calls).values() if getattr(call, "__module__", "") == calls.__name__]


def sent(call: Callable[..., Any]) -> Request[Any]:
    """Return the request of a call with every argument; of a list, that of its second page."""
    names = [name for name in inspect.signature(call).parameters if name not in IN_BODIES]
    made = call(**{name: ARGUMENTS.get(name, "x") for name in names})
    if isinstance(made, Listing):
        if call is not calls.teams:  # they are on one page
            made.take({"data": [], "next_cursor": "c"})
        assert made.request is not None
        return made.request
    if isinstance(made, Waiting):
        return made.request(now=0)
    request: Request[Any] = made.request() if isinstance(made, (Watch, Lines)) else made
    return request


@pytest.mark.parametrize("call", [c for c in CALLS if inspect.isfunction(c) and c.__name__[0] != "_"])
def test_the_client_sends_only_parameters_that_the_route_has(described: dict[str, Any], call: Any) -> None:
    """The API refuses others, and each release of the client meets newer ones of the API."""
    request = sent(call)
    templates = [path for path in described["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), request.path)]

    parameters = described["paths"][templates[0]][request.method.lower()].get("parameters", [])

    assert len(templates) == 1
    assert set(request.query) <= {parameter["name"] for parameter in parameters if parameter["in"] == "query"}


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
        assert ("422" in answers) == (path != "/metrics"), where  # an unknown query parameter is refused with it
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
