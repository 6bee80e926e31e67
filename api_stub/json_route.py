"""A route of FastAPI with a shorter way from the usual request to its answer.

`api_stub/arguments.py` reads the arguments. An answer becomes JSON on the thread that made it: FastAPI hands it to one
more thread, which checks it against the type that the route declares. Here mypy has checked that; the description in
openapi.json still comes from the declared type.
"""

import inspect
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import wraps
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from api_stub.arguments import Arguments, UnusualRequest


class JsonRoute(APIRoute):
    """A route that answers with JSON.

    The endpoint has a parameter `service`. On its parameter `response`, if it has one, it can set headers.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], *, status_code: int | None = None, **options: Any):
        answer = _Answer(status_code or 200)
        super().__init__(path, answer.made_by(endpoint), status_code=status_code, **options)
        if self.response_model is not None:
            answer.type = TypeAdapter(self.response_model)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        handle = super().get_route_handler()
        try:
            arguments = Arguments(self.dependant)
        except UnusualRequest:
            return handle

        async def handle_usual(request: Request) -> Response:
            async with AsyncExitStack() as stack:
                try:
                    values = await arguments.read(request, stack)
                except UnusualRequest:
                    return await handle(request)
                response: Response = await self.endpoint(**values)
                return response

        return handle_usual


class _Answer:
    """How the results of one endpoint are sent. `type` None: it has no body, or makes its responses itself."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.type: TypeAdapter[Any] | None = None

    def made_by(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """Return the endpoint that returns a response. It is called on a thread, unless it is a coroutine."""

        is_async = inspect.iscoroutinefunction(endpoint)

        def write(**arguments: Any) -> Any:
            return self._of(endpoint(**arguments), arguments)

        @wraps(endpoint)
        async def answer(**arguments: Any) -> Any:
            if is_async:
                return self._of(await endpoint(**arguments), arguments)
            return await arguments["service"].threads.run(write, **arguments)

        return answer

    def _of(self, result: Any, arguments: dict[str, Any]) -> Any:
        if self.type is None or isinstance(result, Response):
            return result
        response = Response(self.type.dump_json(result), self._status, media_type="application/json")
        if (own := arguments.get("response")) is not None:
            response.headers.update(own.headers)
        return response
