"""Who may do what to whose: the routes, the kinds of keys, and what each meets there.

Two things stand for all: one is Ada's, of team 'plain', the other is Bob's, of team 'with-tool'; a third is absent.
"""

from dataclasses import dataclass, field
from typing import Any

from worker.domain import Scope

ADA, BOB = "u-ada", "u-bob"
OWNERS = {"Ada's": ADA, "Bob's": BOB}


@dataclass(frozen=True)
class Route:
    """A route, the scope that it needs, and how it is asked for a thing: {run_id}, {session_id}, …, {tag}."""

    method: str
    path: str
    scope: Scope | None
    status: int = 200
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    also: Scope | None = None  # a second scope that it needs

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def of_everybody(self) -> bool:
        """Whether it tells of the whole installation, and of nobody in it."""
        return self.path == "/metrics"

    @property
    def names_user(self) -> bool:
        """Whether its path names the user, who is never absent: then no query names one."""
        return "{user_id}" in self.path

    @property
    def names_user_in_query(self) -> bool:
        """Whether its query can name a user. The bodies of new runs and batches do, and no other query is read."""
        return self.path != "/v1/teams" and str(self) not in ("POST /v1/runs", "POST /v1/batches")

    @property
    def names_one(self) -> str | None:
        """Whether its path names one run, session or batch, and so what may be not found."""
        return next((one for one in ("run", "session", "batch") if f"{{{one}_id}}" in self.path), None)


ROUTES = [
    Route("POST", "/v1/runs", Scope.RUNS_WRITE, 202, body={"team": "plain", "input": "hello"}),
    Route("GET", "/v1/runs", Scope.RUNS_READ, query={"session_id": "{session_id}"}),
    Route("GET", "/v1/runs/{run_id}", Scope.RUNS_READ, query={"wait": "1"}),
    Route("GET", "/v1/runs/{run_id}/events", Scope.RUNS_READ),
    Route("POST", "/v1/runs/{run_id}/cancel", Scope.RUNS_WRITE, 202),
    Route("POST", "/v1/runs/{run_id}/retry", Scope.RUNS_WRITE, 202),
    Route("GET", "/v1/runs/{run_id}/why", Scope.RUNS_READ),
    Route("GET", "/v1/sessions", Scope.SESSIONS_READ, query={"tag": "{tag}"}),
    Route("GET", "/v1/sessions/{session_id}", Scope.SESSIONS_READ),
    Route("PATCH", "/v1/sessions/{session_id}", Scope.SESSIONS_WRITE, body={"name": "changed"}),
    Route("DELETE", "/v1/sessions/{session_id}", Scope.SESSIONS_WRITE, 204),
    Route("GET", "/v1/sessions/{session_id}/messages", Scope.SESSIONS_READ),
    Route("GET", "/v1/sessions/{session_id}/runs", Scope.SESSIONS_READ),
    Route("GET", "/v1/sessions/{session_id}/summary", Scope.SESSIONS_READ),
    Route("POST", "/v1/sessions/{session_id}/summary", Scope.SESSIONS_WRITE, 202),
    Route("GET", "/v1/batches", Scope.BATCHES, query={"limit": "200"}),
    Route("POST", "/v1/batches", Scope.BATCHES, 202, body={"kind": "retry_failed", "select": {"tag": "no such tag"}}),
    Route("GET", "/v1/batches/{batch_id}", Scope.BATCHES),
    Route("GET", "/v1/batches/{batch_id}/items", Scope.BATCHES),
    Route("POST", "/v1/batches/{batch_id}/items", Scope.BATCHES, 202, body={"requests": [], "more": True}),
    Route("GET", "/v1/batches/{batch_id}/results", Scope.BATCHES, also=Scope.RUNS_READ),
    Route("POST", "/v1/batches/{batch_id}/pause", Scope.BATCHES, 202),
    Route("POST", "/v1/batches/{batch_id}/resume", Scope.BATCHES, 202),
    Route("POST", "/v1/batches/{batch_id}/cancel", Scope.BATCHES, 202),
    Route("POST", "/v1/batches/{batch_id}/retry", Scope.BATCHES, 202),
    Route("GET", "/v1/users/{user_id}/export", Scope.SESSIONS_READ),
    Route("DELETE", "/v1/users/{user_id}", Scope.SESSIONS_WRITE),
    Route("GET", "/v1/teams", None),
    Route("GET", "/metrics", Scope.RUNS_READ),
]
# Pending calls have tests of their own: `test_pending.py`.
OF_PENDING_CALLS = [
    Route("GET", "/v1/runs/{run_id}/decisions", Scope.RUNS_READ),
    Route("POST", "/v1/runs/{run_id}/continue", Scope.RUNS_WRITE),
    Route("GET", "/v1/pending", Scope.RUNS_READ),
]


@dataclass(frozen=True)
class Kind:
    """A kind of key: how it is bound, what it may do, whose things it sees. `refused` is the code that it meets."""

    sees: tuple[str, ...] = ()
    user: str | None = None
    teams: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()
    acts_for: str | None = None  # the user that its requests name
    refused: str | None = None

    def shows(self, route: Route, thing: str) -> bool:
        """Tell whether it sees a thing at a route. A batch is seen by keys of just the teams that it was made for."""
        return thing in self.sees and not (len(self.teams) > 1 and route.path.startswith("/v1/batches"))

    def has(self, scope: Scope | None) -> bool:
        """Tell whether it may do what needs *scope*; no route here needs admin."""
        return scope is None or not self.scopes or scope in self.scopes or Scope.ADMIN in self.scopes


BOTH = ("Ada's", "Bob's")
KINDS = {
    "no key": Kind(refused="key_missing"),
    "no key of ours": Kind(refused="key_invalid"),
    "a key with another secret": Kind(refused="key_invalid"),
    "a revoked key": Kind(refused="key_invalid"),
    "a service key": Kind(BOTH),
    "a service key for Ada": Kind(("Ada's",), acts_for=ADA),
    "a service key for nobody": Kind((), acts_for=""),
    "Ada's key": Kind(("Ada's",), user=ADA),
    "Ada's key, naming her": Kind(("Ada's",), user=ADA, acts_for=ADA),
    "Ada's key, naming Bob": Kind((), user=ADA, acts_for=BOB),
    "Ada's key, naming nobody": Kind((), user=ADA, acts_for=""),
    "Bob's key": Kind(("Bob's",), user=BOB),
    "a stranger's key": Kind((), user="eve"),
    "a key of team plain": Kind(("Ada's",), teams=("plain",)),
    "a key of team with-tool": Kind(("Bob's",), teams=("with-tool",)),
    "a key of both teams": Kind(BOTH, teams=("plain", "with-tool")),
    "Ada's key of Bob's team": Kind((), user=ADA, teams=("with-tool",)),
} | {f"a key with {scope} alone": Kind(BOTH, scopes=(scope,)) for scope in Scope}
CASES = [(kind, route) for route in ROUTES for kind in KINDS if not route.names_user or KINDS[kind].acts_for is None]


def answer(kind: Kind, route: Route, thing: str) -> tuple[int, str | None]:
    """Return the status and the code that a key of *kind* is to meet at *route*, for *thing*."""
    if kind.refused:
        return 401, kind.refused
    if not (kind.has(route.scope) and kind.has(route.also)):
        return 403, "scope_missing"
    if route.of_everybody:
        return (403, "key_bound") if kind.user is not None or kind.teams else (200, None)
    if route.body and "team" in route.body and kind.teams and route.body["team"] not in kind.teams:
        return 403, "team_forbidden"
    if route.scope and kind.user is not None and kind.acts_for not in (None, kind.user):
        return 403, "user_forbidden"
    if route.names_user and kind.user not in (None, OWNERS.get(thing)):
        return 403, "user_forbidden"
    if route.names_one and not kind.shows(route, thing):
        return 404, f"{route.names_one}_not_found"
    return route.status, None
