"""The HTTP API in Python: enqueue a run, follow it, look at its session.

Safe to repeat: every enqueue carries an idempotency key, so a request whose answer was lost is sent again and finds
the run that it made. A broken event stream is resumed behind the last event that was read.
"""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2

TRIES = 4
TERMINAL = ("completed", "failed", "cancelled")


class RequestFailed(Exception):
    """The API refused a request. `code` is stable, `status` the HTTP status, and the text says what to do."""

    def __init__(self, *, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Unreachable(Exception):
    """The API did not answer, however often it was asked. Whether the last request was carried out is not known."""

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run: its id, its type such as 'message.delta', and its data."""

    id: str
    type: str
    data: dict[str, Any]


class Client:
    """A connection to the API at *url*, with *key*. Close it, or use it in a `with`."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=httpx2.Timeout(10, read=75)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def enqueue(
        self,
        team: str,
        input: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Enqueue a run and return it: it is committed.

        Raises:
            RequestFailed: it was refused, and nothing was written.
            Unreachable: nobody knows; send it again with the same *idempotency_key*.
        """
        body = {"team": team, "input": input, "session_id": session_id, "user_id": user_id, "metadata": metadata}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        body = {name: value for name, value in body.items() if value is not None}
        return self._ask("POST", "/v1/runs", json=body, headers=headers)

    def run(self, run_id: str, *, wait_s: float = 0) -> dict[str, Any]:
        """Return a run; with *wait_s* as soon as it is terminal, at the latest after so long."""
        deadline = time.monotonic() + wait_s
        while True:
            left = max(0.0, deadline - time.monotonic())
            run = self._ask("GET", f"/v1/runs/{run_id}", params={"wait": min(60.0, left)})
            if run["status"] in TERMINAL or time.monotonic() >= deadline:
                return run

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Ask for the end of a run, and return it as it is now."""
        return self._ask("POST", f"/v1/runs/{run_id}/cancel")

    def events(self, run_id: str) -> Iterator[Event]:
        """Yield a run's events as they happen, up to the terminal one, whatever becomes of the connection."""
        last_id: str | None = None
        failures = 0
        while failures < TRIES:
            try:
                for event in self._events(run_id, last_id):
                    yield event
                    last_id, failures = event.id, 0
                    if event.type.removeprefix("run.") in TERMINAL:
                        return
            except httpx2.TransportError:
                pass
            failures += 1
            time.sleep(min(2.0, 0.1 * 2**failures))
        raise Unreachable

    def messages(self, session_id: str, *, user_id: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the messages of a session, oldest first, page by page."""
        cursor: str | None = None
        while True:
            asked = {"user_id": user_id, "cursor": cursor, "limit": 200}
            params = {name: value for name, value in asked.items() if value is not None}
            page = self._ask("GET", f"/v1/sessions/{session_id}/messages", params=params)
            yield from page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request until it is answered; each is safe to repeat."""
        for tried in range(1, TRIES + 1):
            try:
                answer = self._http.request(method, path, **options)
            except httpx2.TransportError:
                if tried == TRIES:
                    raise Unreachable from None
            else:
                if answer.is_success:
                    found: dict[str, Any] = answer.json()
                    return found
                if answer.status_code not in (429, 503) or tried == TRIES:
                    raise _refusal(answer)
            time.sleep(0.1 * 2**tried)
        raise AssertionError("unreachable")

    def _events(self, run_id: str, last_id: str | None) -> Iterator[Event]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        with self._http.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "id" in fields:
                    yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
                    fields = {}
                else:
                    fields = {}


def _refusal(answer: httpx2.Response) -> RequestFailed:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    detail = problem.get("detail", f"The API answered {answer.status_code}.")
    return RequestFailed(status=answer.status_code, code=problem.get("code", "http_error"), detail=detail)
