"""Synchronous work from a coroutine, without holding up its event loop."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def on_thread(work: Callable[[], T], *, name: str) -> "asyncio.Future[T]":
    """Call *work* on a new thread, with this task's context variables, and return the future of its result.

    A thread of its own for each: a run can take hours, and `asyncio.to_thread` has few.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def give(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # it is a T if there is no error

    def call() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - it is raised where the future is awaited
            error = raised
        with suppress(RuntimeError):  # the loop was closed: there is no one left who waits
            loop.call_soon_threadsafe(give, result, error)

    threading.Thread(target=contextvars.copy_context().run, args=(call,), name=name, daemon=True).start()
    return future


def twin(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Return the async twin of a method, with the same arguments, which calls it on a thread."""

    @wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    call.__doc__ = f"As `{method.__name__}`, awaited."
    return call
