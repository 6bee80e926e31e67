"""Requests, and what their answers mean, for `Client` and `AsyncClient`: without sockets, threads or clocks.

Every request may be sent again: an enqueue and a retry carry an idempotency key, and all others have the same effect
when they are repeated. So a request without an answer is sent again after a pause, a bounded number of times.
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
R = TypeVar("R")

RETRYABLE = frozenset({429, 502, 503, 504})  # the last three come from proxies too
LONGEST_PAUSE_S = 10.0
LONGEST_RETRY_AFTER_S = 60.0  # a longer Retry-After is left to the caller
LONGEST_POLL_S = 60.0  # the API holds a request that waits for a run no longer than this
SILENCE_S = 30.0  # a stream sends something every two seconds
CONNECT_S = 10.0
KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One request; *T* is the type of its answer. It fails if the API sends nothing for `silence_s` seconds."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    silence_s: float = SILENCE_S

    def send(self, http: Callable[..., R], **options: Any) -> R:
        """Pass the request to a function of the HTTP library, `request` or `stream`, with more *options* of it."""
        headers = {name: value.encode() for name, value in self.headers.items()}
        if self.body is not None:
            headers["Content-Type"] = b"application/json"
        return http(
            self.method,
            self.path,
            params=self.query,
            headers=headers,
            content=None if self.body is None else json.dumps(self.body).encode(),
            timeout=(CONNECT_S, self.silence_s, self.silence_s, None),
            **options,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. The names of *headers* are looked up in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No readable answer. If it was `sent`, the request may have been carried out.

    `closed`: the server closed a connection that was kept from an earlier request, without an answer.
    """

    reason: str
    sent: bool = True
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Retries:
    """The number of retries of a request, and the first pause in seconds. Each pause doubles, up to ten seconds.

    *jitter* returns a number from 0 to 1, which shortens a pause by up to one half, so that clients that failed
    together do not return together.
    """

    count: int = 6
    pause_s: float = 0.2
    jitter: Callable[[], float] = random.random

    def pause(self, failures: int) -> float:
        """Return how long to wait after this number of failures in a row."""
        return min(LONGEST_PAUSE_S, self.pause_s * 2.0 ** min(failures - 1, 30)) * (1 - self.jitter() / 2)


class Backoff:
    """Counts the failures of a request in a row; returns the pause after each, or raises. *api* is for messages."""

    def __init__(self, request: Request[Any], retries: Retries, *, api: str) -> None:
        self._method = request.method
        self._key = request.headers.get(KEY)
        self._retries = retries
        self.api = api
        self._sent = False
        self.failures = 0

    def after(self, failure: Answer | Lost) -> float:
        """Return how many seconds to wait before the next try.

        Raises:
            RequestFailed: another try cannot help, or this was the last one.
            Unreachable: this was the last try.
        """
        if isinstance(failure, Lost) and failure.closed:
            # No failure of the server: it closes idle connections, here just before this request came. Each such try
            # uses up a kept connection, so a new one follows soon.
            self._sent = True
            return 0.0
        self.failures += 1
        if isinstance(failure, Lost):
            self._sent |= failure.sent
            if self.failures > self._retries.count:
                raise Unreachable(self._unreachable(failure), idempotency_key=self._key)
            return self._retries.pause(self.failures)
        self._sent = True
        requested_s = retry_after(failure)
        too_late = requested_s is not None and requested_s > LONGEST_RETRY_AFTER_S
        if failure.status not in RETRYABLE or too_late or self.failures > self._retries.count:
            raise self._refusal(failure, retry_after_s=requested_s)
        pause_s = self._retries.pause(self.failures)
        return pause_s if requested_s is None else requested_s + pause_s

    def _refusal(self, answer: Answer, *, retry_after_s: float | None) -> RequestFailed:
        body = parse_json(answer.body)
        problem = body if isinstance(body, dict) else {}
        unexplained = (
            f"The API at {self.api}, or a proxy before it, answered with status {answer.status}. "
            "Check that this is the URL of the API, and the proxy."
        )
        return RequestFailed(
            str(problem.get("detail") or unexplained),
            status=answer.status,
            code=str(problem.get("code") or "http_error"),
            retry=answer.status in RETRYABLE or problem.get("retry") is True,
            retry_after_s=retry_after_s,
            idempotency_key=self._key,
        )

    def _unreachable(self, failure: Lost) -> str:
        last = f"after {self.failures} {'try' if self.failures == 1 else 'tries'}; the last one: {failure.reason}"
        if not self._sent:
            return f"Cannot connect to the API at {self.api} ({last}). Check that it runs and that its URL is right."
        text = f"The API at {self.api} gave no readable answer ({last})."
        return text if self._method == "GET" else f"{text} The request may have been carried out."


class Exchange(Generic[T]):
    """Retries a request until an answer is final. It is then `done`, with its `result`.

    Wait for `pause_s` before each try.
    """

    result: T

    def __init__(self, request: Request[T], retries: Retries, *, api: str) -> None:
        self.done = False
        self.pause_s = 0.0
        self._deletes = request.method == "DELETE"
        self._backoff = Backoff(request, retries, api=api)
        self._in_doubt = False

    def take(self, outcome: Answer | Lost) -> None:
        """Take the outcome of one try.

        Raises:
            RequestFailed, Unreachable
        """
        if isinstance(outcome, Answer) and 200 <= outcome.status < 300:
            value = parse_json(outcome.body) if outcome.status != 204 else None
            if isinstance(value, dict) or outcome.status == 204:
                self.result, self.done = cast(T, value), True
                return
            outcome = Lost("an answer that is not a JSON object")
        elif isinstance(outcome, Answer) and outcome.status == 404 and self._in_doubt and self._deletes:
            self.result, self.done = cast(T, None), True  # an earlier try deleted it, and its answer was lost
            return
        self.pause_s = self._backoff.after(outcome)
        self._in_doubt |= isinstance(outcome, Lost) or outcome.status >= 500


class Waiting:
    """Waits for a run with requests that the API holds open. It is then `over`, with the `run`.

    Wait for `pause_s` before each request. *strict*: a run that has not ended in time is a TimeoutError.
    """

    run: Run

    def __init__(self, request: Request[Run], *, wait_s: float | None, strict: bool = False) -> None:
        self.over = False
        self.pause_s = 0.0
        self._request = request
        self._wait_s = wait_s
        self._strict = strict
        self._deadline: float | None = None
        self._requested_at = 0.0

    def request(self, *, now: float) -> Request[Run]:
        """Return the next request. *now* is the time of a monotonic clock."""
        if self._deadline is None and self._wait_s is not None:
            self._deadline = now + self._wait_s
        self._requested_at = now
        left = LONGEST_POLL_S if self._deadline is None else max(0.0, min(LONGEST_POLL_S, self._deadline - now))
        return replace(self._request, query={**self._request.query, "wait": f"{left:.3f}"}, silence_s=left + SILENCE_S)

    def take(self, run: Run, *, now: float) -> None:
        """Take the answer of a request.

        Raises:
            TimeoutError: the time is over, and *strict*.
        """
        self.run = run
        late = self._deadline is not None and now >= self._deadline
        unfinished = run["status"] in ("queued", "running")
        self.over = late or not unfinished
        if late and unfinished and self._strict:
            raise TimeoutError(f"Run {run['id']!r} is {run['status']} after {self._wait_s:g} s. It continues.")
        self.pause_s = 0.5 if now - self._requested_at < 0.1 else 0.0  # the API did not hold it: avoid a busy loop


class Page(TypedDict, Generic[T]):
    """One page of a list, and the cursor of the next one."""

    data: list[T]
    next_cursor: str | None


class Listing(Generic[T]):
    """A list in pages. `request` is for the next page, and None after the last."""

    def __init__(self, request: Request[Page[T]]) -> None:
        self.request: Request[Page[T]] | None = request

    def take(self, page: Page[T]) -> list[T]:
        """Return the items of a page, and move `request` to the next one."""
        assert self.request is not None
        cursor = page.get("next_cursor")
        self.request = replace(self.request, query={**self.request.query, "cursor": cursor}) if cursor else None
        return page["data"]


def lost(error: Exception, *, closed: bool) -> Lost:
    """Return the meaning of an error of the HTTP library."""
    name = type(error).__name__
    sent = name not in ("ConnectError", "ConnectTimeout")
    return Lost(f"{name}: {error}" if str(error) else name, sent=sent, closed=closed)


def retry_after(answer: Answer) -> float | None:
    """Return the Retry-After of an answer in seconds. One that is a time is compared with the answer's Date."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        at, now = (parsedate_to_datetime(text) for text in (value, answer.headers.get("date", "")))
        return max(0.0, (at - now).total_seconds())
    except (TypeError, ValueError):
        return None


def parse_json(body: bytes) -> object:
    """Return the value of *body*, or None if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
