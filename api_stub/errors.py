"""The one translation of errors into answers: problem+json (RFC 9457), the framework's own errors too."""

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api_stub.schemas import Problem
from worker.errors import RateLimited, TeamSessionsError
from worker.observe import logs, metrics

log = logs.get(__name__)

_HTTP = {
    400: ("malformed_json", "The body is not JSON that can be read: not UTF-8, nested too deep, or a number too long."),
    404: ("route_not_found", "There is nothing at this path. See /openapi.json for what there is."),
    405: ("method_not_allowed", "This path does not take this method. See /openapi.json for those it takes."),
    413: ("body_too_large", ""),
}


def problem(*, status: int, code: str, detail: str, retry: bool = False, wait_s: float = 1.0) -> JSONResponse:
    """Return an error as an answer, and count it; *wait_s* says when to come again, where that helps."""
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
    """Give *app* the translation."""
    app.add_exception_handler(TeamSessionsError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _unexpected)


def responses(*codes: int) -> dict[int | str, dict[str, object]]:
    """Return the OpenAPI description of the errors that a route with a key can answer with."""
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {code: {"description": _MEANINGS[code], "content": content} for code in sorted({*codes, 401, 403, 429, 503})}


_MEANINGS = {
    400: "The body is not JSON.",
    401: "The request carries no key, or one that is not in force.",
    403: "The key may not do this: `scope_missing`, `user_forbidden`, `team_forbidden`, `key_bound`.",
    404: "There is nothing of this id that the key may see.",
    409: "What is asked for contradicts what there is; `code` says which.",
    413: "The body or the input is too large.",
    422: "Something in the request cannot be taken; `detail` names it.",
    429: "There is too much of it just now; the same request may succeed later: `Retry-After` says when.",
    503: "The database did not answer; the same request may succeed later.",
}


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TeamSessionsError)
    if error.status >= 500:
        log.error("request failed", error=error)
    if error.status in (401, 403):
        _audit(request, error)
    wait_s = error.facts["wait_s"] if isinstance(error, RateLimited) else 1.0
    assert isinstance(wait_s, float)
    return problem(status=error.status, code=error.code, detail=error.message, retry=error.retry, wait_s=wait_s)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name every field that is wrong, without the values: they may be message text."""
    assert isinstance(error, RequestValidationError)
    mistakes = error.errors()
    if any(m["type"] == "json_invalid" for m in mistakes):
        return problem(status=400, code="malformed_json", detail="The body is not JSON.")
    detail = "; ".join(f"{'.'.join(map(str, m['loc']))}: {m['msg']}" for m in mistakes)
    return problem(status=422, code="invalid_request", detail=detail)


async def _framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, detail = _HTTP.get(error.status_code, ("http_error", ""))
    answer = problem(status=error.status_code, code=code, detail=detail or str(error.detail))
    answer.headers.update(error.headers or {})
    if error.status_code == 405 and (methods := request.app.openapi()["paths"].get(_template(request))):
        # All methods of the path; the framework names those of the first route that it has there.
        answer.headers["Allow"] = ", ".join(map(str.upper, methods))
    return answer


async def _unexpected(_request: Request, error: Exception) -> JSONResponse:
    log.error("request failed on an unexpected error", error=error)
    detail = "The server met an error that it has no name for. Its log says where."
    return problem(status=500, code="internal", detail=detail)


def _audit(request: Request, error: TeamSessionsError) -> None:
    """Log who was turned away from where: the id of a key, never the key; the route's template, never what it names."""
    key_id = getattr(request.state, "key_id", None)
    log.warning("request denied", code=error.code, method=request.method, route=_template(request), key_id=key_id)


def _template(request: Request) -> str | None:
    """Return the path as the route spells it, such as /v1/runs/{run_id}."""
    return getattr(request.scope.get("route"), "path_format", None)
