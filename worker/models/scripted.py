"""A model for tests: it answers from a script, and fails on every call that the script does not expect."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from worker.domain import ChatRequest, Reply, ToolCall, Usage
from worker.errors import ModelError


class Calls:
    """A scripted reply that asks for tools: `Calls(("add", {"a": 1}), ("add", {"a": 2}))`."""

    def __init__(self, *calls: tuple[str, dict[str, Any] | str], content: str = "") -> None:
        self.calls = calls
        self.content = content


Step = str | Calls | ModelError | Callable[[ChatRequest], "str | Calls"]


@dataclass
class ScriptedModel:
    """Answers each call with the next step: a text, `Calls`, an error to raise, or a function of the request.

    Steps are taken in the order of the calls, from any run. `requests` keeps the requests. Each answer takes
    `delay_s`. Call `check_finished()` at the end of a test.
    """

    steps: Iterable[Step]
    id: str = "scripted"
    delay_s: float = 0.0
    requests: list[ChatRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = list(self.steps)
        self._taken = 0
        self._lock = threading.Lock()

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Take the next step.

        Raises:
            AssertionError: the script has no more steps.
        """
        with self._lock:
            self.requests.append(request)
            if self._taken == len(self._left):
                raise AssertionError(f"ScriptedModel was asked {self._taken + 1} times, its script has {self._taken}")
            step = self._left[self._taken]
            self._taken += 1
            number = self._taken
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if isinstance(step, ModelError):
            raise step
        answer = step(request) if callable(step) else step
        usage = Usage(1, sum(len(m.content) for m in request.messages) // 4, 0, 1)
        if isinstance(answer, str):
            for n, word in enumerate(answer.split(" ")):
                on_delta(" " * (n > 0) + word)
            return Reply(answer, (), usage)
        calls = [
            ToolCall(f"call_{number}_{n}", name, arguments if isinstance(arguments, str) else json.dumps(arguments))
            for n, (name, arguments) in enumerate(answer.calls)
        ]
        return Reply(answer.content, tuple(calls), usage)

    def check_finished(self) -> None:
        """Raise AssertionError if steps of the script were not used."""
        if self._taken < len(self._left):
            raise AssertionError(f"ScriptedModel was asked {self._taken} times, its script has {len(self._left)}")
