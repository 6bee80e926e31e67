"""A route whose answer becomes JSON on the thread that made it, and is not validated again.

FastAPI hands each answer to one more thread, which checks it against the type that the route declares. Here mypy has
checked that; the description in openapi.json still comes from the declared type.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter


class JsonRoute(APIRoute):
    """See above. The endpoint has a parameter `service`; on its `response`, if it has that, it can set headers."""

    def __init__(self, path: str, endpoint: Callable[..., Any], *, status_code: int | None = None, **options: Any):
        answer = _Answer(status_code or 200)
        super().__init__(path, answer.made_by(endpoint), status_code=status_code, **options)
        if self.response_model is not None:
            answer.type = TypeAdapter(self.response_model)


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
