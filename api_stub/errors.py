"""Turns every error, including FastAPI's own, into a problem+json response (RFC 9457)."""

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api_stub.schemas import Problem
from worker.errors import ApiBusy, RateLimited, RequestRefused, TeamSessionsError
from worker.observe import logs, metrics

log = logs.get(__name__)

_LISTED = "GET /openapi.json, which needs the header 'Authorization: Bearer KEY', lists all paths"
_HTTP = {
    400: (
        "malformed_json",
        "The body is not readable JSON: not UTF-8, nested too deeply, or with a number that is too long.",
    ),
    404: ("route_not_found", f"This path does not exist. {_LISTED}, as does the handbook's page ops/handbook/api.md."),
    405: ("method_not_allowed", f"This path does not accept this method. {_LISTED} with their methods."),
    413: ("body_too_large", ""),  # the exception's own detail is sent
    503: (ApiBusy.code, ""),  # as above
}


def problem(*, status: int, code: str, detail: str, retry: bool = False, wait_s: float = 1.0) -> JSONResponse:
    """Return an error response, and count it. With status 429 or 503, `Retry-After` is *wait_s*, rounded up."""
    metrics.REFUSALS.labels(code).inc()
    body = {
        "type": f"urn:team-sessions:error:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        "retry": retry,
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    headers |= {"Retry-After": str(max(1, math.ceil(wait_s)))} if status in (429, 503) else {}
    return JSONResponse(body, status_code=status, media_type="application/problem+json", headers=headers)


def install(app: FastAPI) -> None:
    """Add the error handlers to *app*."""
    app.add_exception_handler(TeamSessionsError, _team_sessions_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected_error)


def responses(*codes: int) -> dict[int | str, dict[str, object]]:
    """Return the OpenAPI description of a route's errors: *codes*, and those common to all routes that need a key."""
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    codes_of_route = sorted({*codes, 401, 403, 429, 503})
    return {code: {"description": _DESCRIPTIONS[code], "content": content} for code in codes_of_route}


_DESCRIPTIONS = {
    400: "The body is not JSON.",
    401: "The request has no valid key.",
    403: "The key may not do this: `scope_missing`, `user_forbidden`, `team_forbidden`, `key_bound`.",
    404: "Nothing with this ID exists, or the key may not see it.",
    409: "The request conflicts with the current state; `code` names the conflict.",
    413: "The body or the input is too large.",
    422: "The request is invalid; `detail` says why.",
    429: "Too many requests, or a full queue. Retry after `Retry-After` seconds.",
    503: "The database did not answer, or this process is at a limit. Retry after `Retry-After` seconds.",
}


async def _team_sessions_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TeamSessionsError)
    if isinstance(error, RequestRefused):
        request.scope["refused"] = True  # it is logged where it was refused
    elif error.status >= 500:
        log.error("request failed", error=error)
    if error.status in (401, 403):
        # Log the ID of the key, never the key itself; the route's template, never the IDs in the path.
        key_id, route = getattr(request.state, "key_id", None), _template(request)
        log.warning("request denied", code=error.code, method=request.method, route=route, key_id=key_id)
    wait_s = error.facts["wait_s"] if isinstance(error, RateLimited) else 1.0
    assert isinstance(wait_s, float)
    return problem(status=error.status, code=error.code, detail=error.message, retry=error.retry, wait_s=wait_s)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Return a 422 that names every invalid field, but no value: a value may be message text."""
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if any(p["type"] == "json_invalid" for p in problems):
        return problem(status=400, code="malformed_json", detail="The body is not JSON.")
    if any(p["loc"] == ("body",) and p["type"] != "missing" for p in problems) and not _is_json(request):
        return problem(status=422, code="invalid_request", detail=_NOT_JSON)
    detail = "; ".join(f"{'.'.join(map(str, p['loc']))}: {_MESSAGES.get(p['type'], p['msg'])}" for p in problems)
    return problem(status=422, code="invalid_request", detail=detail)


_NOT_JSON = "The body was not read, because its Content-Type is not JSON. Send Content-Type: application/json."


def _is_json(request: Request) -> bool:
    """Tell whether FastAPI reads the body as JSON. Without a Content-Type it does not."""
    kind, _, subtype = request.headers.get("content-type", "").partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


# Some request bodies are dataclasses. In these two cases, Pydantic's messages name Python classes and arguments.
_MESSAGES = {
    "unexpected_keyword_argument": "Extra inputs are not permitted",
    "dataclass_type": "Input should be a valid dictionary or object to extract fields from",
}


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, detail = _HTTP.get(error.status_code, ("http_error", ""))
    retry = error.status_code == ApiBusy.status
    response = problem(status=error.status_code, code=code, detail=detail or str(error.detail), retry=retry)
    response.headers.update(error.headers or {})
    if error.status_code == 405 and (methods := request.app.openapi()["paths"].get(_template(request))):
        # List all methods of the path. Starlette lists only those of the path's first route.
        response.headers["Allow"] = ", ".join(map(str.upper, methods))
    return response


async def _unexpected_error(_request: Request, error: Exception) -> JSONResponse:
    log.error("request failed on an unexpected error", error=error)
    detail = "Unexpected server error. The server's log has the details."
    return problem(status=500, code="internal", detail=detail)


def _template(request: Request) -> str | None:
    """Return the path as the route declares it, for example /v1/runs/{run_id}."""
    return getattr(request.scope.get("route"), "path_format", None)
