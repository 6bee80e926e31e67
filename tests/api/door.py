"""One worker and one API behind a socket, and what tests ask of them."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import httpx2
from redis import Redis
from sqlalchemy import func, select

from tests.support import life
from tests.support.system import System, wait_until
from worker.domain import Draft, Role, RunOrder, Status, SummaryDraft
from worker.runs.enqueue import enqueue
from worker.runs.finish import Ending
from worker.settings import Settings
from worker.store import api_keys, sessions, summaries, tables

MAX_INPUT = 10_000
SECRET = "the words of a user"


@dataclass(frozen=True)
class Event:
    """One event, as it came."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def position(self) -> tuple[int, ...]:
        return tuple(map(int, self.id.split("-")))


def read_events(text: str) -> list[Event]:
    """Return the events of an event stream; comments are left out."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            events.append(Event(fields["id"], fields["event"], json.loads(fields["data"])))
    return events


def name(prefix: str) -> str:
    """Return an id that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex}"


class Door:
    """The HTTP door of a running system, seen with a service key."""

    def __init__(self, system: System, redis: "Redis[Any]") -> None:
        self.system = system
        self.redis = redis
        self.http = self.with_key(system.key)

    def with_key(self, key: str) -> httpx2.Client:
        """Return a client that asks with *key*. It reads no certificates: there is no TLS here, and they take 30 ms."""
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.system.url, headers=headers, timeout=60, verify=False)

    def new_key(self, **bounds: Any) -> str:
        """Return a new key, bound to a user or to teams."""
        with self.system.db.write() as tx:
            return api_keys.create(tx, name="test", **bounds)

    def enqueue(self, input: str = "hello", *, team: str = "plain", **fields: Any) -> dict[str, Any]:
        """Have a run accepted and return it."""
        answer = self.http.post("/v1/runs", json={"team": team, "input": input, **fields})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def run(self, run_id: str, *, wait: float = 0) -> dict[str, Any]:
        """Return a run as it is, or as soon as it has ended."""
        answer = self.http.get(f"/v1/runs/{run_id}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, run_id: str) -> dict[str, Any]:
        """Return a run once it has ended."""
        run = self.run(run_id, wait=60)
        assert run["finished_at"], run
        return run

    def write_completed(self, *, team: str, session_id: str, user_id: str) -> str:
        """Write a run that has completed, without a worker; return its id."""
        db, order = self.system.db, RunOrder(team, "go", session_id=session_id, user_id=user_id)
        run_id = enqueue(db, order, settings=Settings()).run.id
        answer = Draft(Role.ASSISTANT, team, "done")
        life.end(db, life.take(db, run_id, team=team), Ending(Status.COMPLETED, [answer], output="done"))
        return run_id

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a run and return it as it stood then."""
        answer = self.http.post(f"/v1/runs/{run_id}/cancel")
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def condense(self, run_id: str, text: str) -> None:
        """Give the session of a run that has ended a summary, as a worker for `summaries` would."""
        with self.system.db.write() as tx:
            session = sessions.lock_of_run(tx, run_id)
            assert session is not None
            base = summaries.base(tx, session.pk)
            assert base is not None
            ends = {"covers_through_seq": base.finished_seq, "covers_position": base.finished_position}
            new = SummaryDraft("m", "0", 0, text, ["test"], **ends, pieces=1)
            assert summaries.cover(tx, session.pk, base, new)
            summaries.add(tx, session.pk, base.version + 1, new, keep=10)

    def until(self, run_id: str, status: str) -> None:
        """Wait until a run has a status."""
        wait_until(lambda: self.run(run_id)["status"] == status, description=f"the run is {status}")

    def messages(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the history of a run's session."""
        path = f"/v1/sessions/{run['session_id']}/messages"
        answer = self.http.get(path, params={"user_id": run["user_id"], "limit": 200})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    def events(self, run_id: str, *, after: str | None = None) -> list[Event]:
        """Return a run's events up to its end."""
        headers = {"Last-Event-ID": after} if after else {}
        answer = self.http.get(f"/v1/runs/{run_id}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        return read_events(answer.text)

    def rows(self) -> dict[str, int]:
        """Return how many rows stand in each table, once no run is under way."""
        wait_until(lambda: not self.unfinished(), description="no run is under way")
        kept = (tables.sessions, tables.runs, tables.messages, tables.idempotency)
        with self.system.db.read() as tx:
            return {table.name: tx.execute(select(func.count()).select_from(table)).scalar_one() for table in kept}

    def unfinished(self) -> int:
        """Return how many runs have not ended."""
        waits = tables.runs.c.status.in_(["queued", "running"])
        with self.system.db.read() as tx:
            return int(tx.execute(select(func.count()).where(waits)).scalar_one())


def check_problem(answer: httpx2.Response, *, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is the problem that is expected, in full, and holds nothing that a user said."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "code", "detail", "retry"}
    assert (problem["code"], problem["status"], problem["retry"]) == (code, status, False)
    assert problem["type"].endswith(f":{code}")
    assert problem["title"]
    assert problem["detail"].endswith(".") or code == "invalid_request", problem["detail"]
    assert SECRET not in answer.text
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)
    return dict(problem)
