"""The arguments of an endpoint, read from a request in which nothing is unusual.

FastAPI's own way is general, and takes longer than a short request does. This one uses what FastAPI has found out
about the endpoint, and each parameter is validated as there. It leaves to FastAPI: an endpoint with other kinds of
parameters or dependencies, and a request with any mistake, of which FastAPI then tells the client.
"""

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.security import SecurityScopes

Read = Callable[[Request, AsyncExitStack], Awaitable[Any]]


class UnusualRequest(Exception):
    """FastAPI has to read this request."""


class Arguments:
    """The arguments of one endpoint."""

    def __init__(self, dependant: Dependant) -> None:
        """Prepare to read them.

        Raises:
            UnusualRequest: the endpoint has a kind of parameter, or of dependency, that is left to FastAPI.
        """
        if dependant.cookie_params or len(dependant.body_params) > 1:
            raise UnusualRequest
        sources = (
            ("path_params", dependant.path_params),
            ("query_params", dependant.query_params),
            ("headers", dependant.header_params),
        )
        self._parameters = [(source, field.alias, field) for source, fields in sources for field in fields]
        self._body = next(iter(dependant.body_params), None)
        self._response = dependant.response_param_name
        self._dependencies = [(sub.name or "", _dependency(sub)) for sub in dependant.dependencies]

    async def read(self, request: Request, stack: AsyncExitStack) -> dict[str, Any]:
        """Return the arguments. *stack* ends the dependencies that last as long as the endpoint's call.

        Raises:
            UnusualRequest: the request is left to FastAPI. No dependency was called yet.
        """
        values = {
            field.name: _valid(field, getattr(request, source).get(alias)) for source, alias, field in self._parameters
        }
        if self._body is not None:
            values[self._body.name] = _valid(self._body, await _json(request))
        if self._response is not None:
            values[self._response] = response = Response()
            del response.headers["content-length"]
        for name, dependency in self._dependencies:
            values[name] = await dependency(request, stack)
        return values


def _valid(field: Any, value: Any) -> Any:
    if value is None:
        if field.field_info.is_required():
            raise UnusualRequest
        return field.get_default()
    try:
        result, errors = field.validate(value)
    except Exception:  # noqa: BLE001 - some of our checks raise their own errors; who has no key must not see them
        raise UnusualRequest from None
    if errors:
        raise UnusualRequest
    return result


async def _json(request: Request) -> Any:
    if request.headers.get("content-type") != "application/json":
        raise UnusualRequest
    try:
        return await request.json()
    except HTTPException:
        raise
    except Exception:  # noqa: BLE001 - such as one that is nested too deeply
        raise UnusualRequest from None


def _dependency(dependant: Dependant) -> Read:
    """Return the function that calls a dependency which needs the request, and perhaps scopes, and nothing else."""
    needs = (dependant.dependencies, dependant.path_params, dependant.query_params, dependant.header_params)
    call: Any = dependant.call
    if any(needs) or dependant.cookie_params or dependant.body_params or dependant.request_param_name is None:
        raise UnusualRequest
    given: dict[str, Any] = {}
    if dependant.security_scopes_param_name is not None:
        scopes = [*(dependant.parent_oauth_scopes or []), *(dependant.own_oauth_scopes or [])]
        given[dependant.security_scopes_param_name] = SecurityScopes(scopes=scopes)
    name = dependant.request_param_name
    if inspect.isasyncgenfunction(call) and dependant.scope == "function":
        entered = asynccontextmanager(call)

        async def enter(request: Request, stack: AsyncExitStack) -> Any:
            return await stack.enter_async_context(entered(**{name: request}, **given))

        return enter
    if not (inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)):
        raise UnusualRequest

    async def called(request: Request, _stack: AsyncExitStack) -> Any:
        return await call(**{name: request}, **given)

    return called
