"""What is sent, and what an answer means, for `Client` and `AsyncClient` alike: no socket, no thread and no clock.

Every request may be sent again: an enqueue and a retry carry an idempotency key, and all others come to the same when
they are done twice. So whatever ends without an answer is sent again, after a pause, a bounded number of times.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypedDict, TypeVar, cast

from api_stub.client.errors import RequestFailed, Unreachable
from api_stub.client.types import Run

T = TypeVar("T")

AGAIN = frozenset({429, 502, 503, 504})  # the last three come from proxies too
LONGEST_PAUSE_S = 10.0
LONGEST_WISH_S = 60.0  # a Retry-After beyond it is left to the caller
HELD_S = 60.0  # so long, at most, the API holds a request that waits for a run
SILENCE_S = 30.0  # a stream says something every two seconds
CONNECT_S = 10.0
KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One request; *T* is the shape of its answer. `silence_s` bounds how long the API may say nothing."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    silence_s: float = SILENCE_S

    def spelled(self) -> dict[str, Any]:
        """Return what the HTTP library takes."""
        headers = {name: value.encode() for name, value in self.headers.items()}
        if self.body is not None:
            headers["Content-Type"] = b"application/json"
        return {
            "method": self.method,
            "url": self.path,
            "params": self.query,
            "headers": headers,
            "content": None if self.body is None else json.dumps(self.body).encode(),
            "timeout": (CONNECT_S, self.silence_s, self.silence_s, None),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came. The names of *headers* are looked up in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer, or none that can be read: whether the request was carried out is not known."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is sent again, at most, and how long the first pause is: it doubles, up to ten seconds.

    *jitter* returns a number from 0 to 1, which takes up to half of a pause away: clients that failed together do not
    come back together.
    """

    count: int = 6
    pause_s: float = 0.2
    jitter: Callable[[], float] = random.random

    def pause(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row."""
        return min(LONGEST_PAUSE_S, self.pause_s * 2.0 ** min(failures - 1, 30)) * (1 - self.jitter() / 2)


class Patience:
    """Counts the failures of a request in a row, and says after each how long to wait, or that it was the last."""

    def __init__(self, request: Request[Any], retries: Retries) -> None:
        self._request = request
        self._retries = retries
        self.failures = 0

    def after(self, failure: Answer | Lost) -> float:
        """Return how many seconds to wait before the next try.

        Raises:
            RequestFailed: another try cannot help, or there were enough.
            Unreachable: there were enough.
        """
        self.failures += 1
        key = self._request.headers.get(KEY)
        if isinstance(failure, Lost):
            if self.failures > self._retries.count:
                raise Unreachable(failure.reason, tries=self.failures, idempotency_key=key)
            return self._retries.pause(self.failures)
        wish_s = retry_after(failure)
        too_late = wish_s is not None and wish_s > LONGEST_WISH_S
        if failure.status not in AGAIN or too_late or self.failures > self._retries.count:
            raise _refusal(failure, retry_after_s=wish_s, idempotency_key=key)
        pause_s = self._retries.pause(self.failures)
        return pause_s if wish_s is None else wish_s + pause_s


class Exchange(Generic[T]):
    """A request and the answers to it, up to the one that counts: then `done`, and `result` is what it says.

    Before each sending, wait for `pause_s`.
    """

    result: T

    def __init__(self, request: Request[T], retries: Retries) -> None:
        self.done = False
        self.pause_s = 0.0
        self._request = request
        self._patience = Patience(request, retries)
        self._in_doubt = False

    def take(self, got: Answer | Lost) -> None:
        """Say what one sending came to.

        Raises:
            RequestFailed, Unreachable
        """
        if isinstance(got, Answer) and 200 <= got.status < 300:
            found = _json(got.body) if got.status != 204 else None
            if isinstance(found, dict) or got.status == 204:
                self._end(found)
                return
            got = Lost("an answer that is no JSON object")
        elif isinstance(got, Answer) and got.status == 404 and self._in_doubt and self._request.method == "DELETE":
            self._end(None)  # it was there, and a try before this one removed it
            return
        self.pause_s = self._patience.after(got)
        self._in_doubt |= isinstance(got, Lost) or got.status >= 500

    def _end(self, found: object) -> None:
        self.result = cast(T, found)
        self.done = True


class Waiting:
    """Waits for a run with requests that the API holds open: `over`, and `run` is the run.

    Before each request, wait for `pause_s`. *strict*: too late is a TimeoutError, and not the run as it is.
    """

    run: Run

    def __init__(self, request: Request[Run], *, wait_s: float | None, strict: bool = False) -> None:
        self.over = False
        self.pause_s = 0.0
        self._request = request
        self._wait_s = wait_s
        self._strict = strict
        self._deadline: float | None = None
        self._asked_at = 0.0

    def request(self, *, now: float) -> Request[Run]:
        """Return the next request; *now* is the time of a clock that only rises."""
        if self._deadline is None and self._wait_s is not None:
            self._deadline = now + self._wait_s
        self._asked_at = now
        left = HELD_S if self._deadline is None else max(0.0, min(HELD_S, self._deadline - now))
        return replace(self._request, query={**self._request.query, "wait": f"{left:.3f}"}, silence_s=left + SILENCE_S)

    def take(self, run: Run, *, now: float) -> None:
        """Say what a request found.

        Raises:
            TimeoutError: it is too late, and *strict*.
        """
        self.run = run
        late = self._deadline is not None and now >= self._deadline
        goes_on = run["status"] in ("queued", "running")
        self.over = late or not goes_on
        if late and goes_on and self._strict:
            raise TimeoutError(f"Run {run['id']!r} is {run['status']} after {self._wait_s:g} s; it goes on.")
        self.pause_s = 0.5 if now - self._asked_at < 0.1 else 0.0  # the API did not hold it: do not run in circles


class Page(TypedDict, Generic[T]):
    """One page of a list, and the cursor of the next one."""

    data: list[T]
    next_cursor: str | None


class Listing(Generic[T]):
    """A list that comes in pages: `request` asks for the next one, and is None behind the last."""

    def __init__(self, request: Request[Page[T]]) -> None:
        self.request: Request[Page[T]] | None = request

    def take(self, page: Page[T]) -> list[T]:
        """Return what a page holds, and go on to the next."""
        assert self.request is not None
        cursor = page.get("next_cursor")
        self.request = replace(self.request, query={**self.request.query, "cursor": cursor}) if cursor else None
        return page["data"]


def lost(error: Exception) -> Lost:
    """Return what an error of the HTTP library means."""
    return Lost(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def retry_after(answer: Answer) -> float | None:
    """Return the seconds that an answer asks to wait for. A Retry-After that is a time is compared with its Date."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    try:
        at, now = (parsedate_to_datetime(text) for text in (said, answer.headers.get("date", "")))
        return max(0.0, (at - now).total_seconds())
    except (TypeError, ValueError):
        return None


def _refusal(answer: Answer, *, retry_after_s: float | None, idempotency_key: str | None) -> RequestFailed:
    problem = _json(answer.body)
    facts = problem if isinstance(problem, dict) else {}
    return RequestFailed(
        str(facts.get("detail") or f"The API, or a proxy before it, answered with status {answer.status}."),
        status=answer.status,
        code=str(facts.get("code") or "http_error"),
        retry=answer.status in AGAIN or facts.get("retry") is True,
        retry_after_s=retry_after_s,
        idempotency_key=idempotency_key,
    )


def _json(body: bytes) -> object:
    """Return what *body* spells; None where it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
