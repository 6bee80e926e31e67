"""What routes take from a request: the service, the principal of its API key, ids and filters.

Every request needs a key, except the two probes. Unknown query parameters are refused, except by the probes and
`/metrics`, to which load balancers and monitors may add some. A route declares the scope that it needs by the type of
its `principal`: `RunsRead`, or `AnyScope` if any key will do. The scope is checked here and nowhere else, and no route
gets the key itself. Which rows a key may see is checked where they are read, by `store.sessions.visible`.
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Header, Path, Query, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import AfterValidator, BeforeValidator

from api_stub.service import Service
from worker.domain import Principal, Scope, check_text
from worker.domain.fields import ID, TEXT
from worker.errors import KeyMissing, UnknownParameter
from worker.store import api_keys, sessions


async def get_service(request: Request) -> Service:
    """Return the service of this process."""
    return _service(request)


def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceDep = Annotated[Service, Depends(get_service)]


class _Key(SecurityBase):
    """What a route gets from the key in the header of its request. One dependency: each more takes 20 µs a request."""

    model = HTTPBearer(description="A key made with 'team-sessions keys create'.")
    scheme_name = "key"


class _PrincipalOfKey(_Key):
    async def __call__(self, request: Request, required: SecurityScopes) -> Principal:
        """Return the principal of the request's key, which asks for nothing that the route does not know.

        Raises:
            KeyMissing, KeyInvalid, ScopeMissing, RateLimited, UnknownParameter
        """
        service, key = _service(request), _key(request)
        principal = service.keys.get_or_renew(key)
        if principal is None:  # a thread only now: four thread hops a request were a fifth of the cost of accepting
            principal = await service.threads.run(service.keys.verify, key)
        service.rate_limiter.take(principal.key_id)
        for scope in required.scopes:
            principal.check_scope(Scope(scope))
        if request.scope["query_string"]:
            _check_parameters(request)
        return principal


class _MetricsReader(_Key):
    async def __call__(self, request: Request) -> Principal:
        """Return the principal of a key that may read metrics; also while the database is away, if it was valid lately.

        Raises:
            KeyMissing, KeyInvalid, ScopeMissing, KeyBound, RateLimited, DatabaseUnavailable
        """
        service = _service(request)
        principal = await service.threads.run(service.metrics_access.check, _key(request))
        service.rate_limiter.take(principal.key_id)
        return principal


def _check_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have: a misspelled filter would list everything.

    Raises:
        UnknownParameter
    """
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise UnknownParameter(name=name[:40], known=f"It has: {', '.join(known)}" if known else "It has none")


def _key(request: Request) -> str:
    """Return the key of a request, and keep its id, which is no secret, for the log."""
    scheme, key = get_authorization_scheme_param(request.headers.get("Authorization"))
    if scheme.lower() != "bearer" or not key:
        raise KeyMissing()
    key = key.strip()
    request.state.key_id = api_keys.public_id(key)
    return key


_principal = _PrincipalOfKey()
AnyScope = Annotated[Principal, Security(_principal)]
MetricsRead = Annotated[Principal, Security(_MetricsReader(), scopes=[Scope.RUNS_READ.value])]  # it checks itself
RunsRead = Annotated[Principal, Security(_principal, scopes=[Scope.RUNS_READ.value])]
RunsWrite = Annotated[Principal, Security(_principal, scopes=[Scope.RUNS_WRITE.value])]
SessionsRead = Annotated[Principal, Security(_principal, scopes=[Scope.SESSIONS_READ.value])]
SessionsWrite = Annotated[Principal, Security(_principal, scopes=[Scope.SESSIONS_WRITE.value])]
Batches = Annotated[Principal, Security(_principal, scopes=[Scope.BATCHES.value])]
BatchResults = Annotated[Principal, Security(_principal, scopes=[Scope.BATCHES.value, Scope.RUNS_READ.value])]


def _storable(name: str) -> AfterValidator:
    """Return a validator of text in a path or a query: Postgres fails on a NUL character."""
    return AfterValidator(partial(check_text, field=name))


def _id_in_path(description: str, example: str) -> Any:
    return Path(description=description, examples=[example], json_schema_extra=TEXT)


def _filter(description: str, example: str) -> Any:
    return Query(description=description, examples=[example], json_schema_extra=TEXT)


# `unquote` undoes what `middleware.PathSegmentsMiddleware` encodes.
_segment = BeforeValidator(unquote)
_RUN, _BATCH = "run_019ab3c4d5e6f708192a3b4c5d6e7f80", "batch_019ab3c4d5e6f708192a3b4c5d6e7f80"
RunId = Annotated[str, _id_in_path("ID of a run.", _RUN), _segment, _storable("run_id")]
SessionId = Annotated[str, _id_in_path("ID of a session, unique per user.", "s-42"), _segment, _storable("session_id")]
UserId = Annotated[str, _id_in_path("ID of a user.", "u-7"), _segment, _storable("user_id")]
BatchId = Annotated[str, _id_in_path("ID of a batch.", _BATCH), _segment, _storable("batch_id")]
ForUser = Annotated[
    str | None, _filter("The user that a service key acts for; if omitted, every user.", "u-7"), _storable("user_id")
]
OfTeam = Annotated[str | None, _filter("Only those of this team.", "support"), _storable("team")]
OfSession = Annotated[str | None, _filter("Only those of this session.", "s-42"), _storable("session_id")]
OfRun = Annotated[str | None, _filter("Only those of this run.", _RUN), _storable("run_id")]
ByIdempotencyKey = Annotated[
    str | None,
    _filter("Only the run that was accepted with this Idempotency-Key. Keys belong to a user.", "order-17"),
    _storable("idempotency_key"),
]
ByName = Annotated[str | None, _filter("Only those with exactly this name.", "Where is my parcel?"), _storable("name")]
ByTag = Annotated[str | None, _filter("Only those with this tag.", "urgent"), _storable("tag")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Makes a retry safe: the same key returns what the first request created.",
        examples=["order-17"],
        json_schema_extra=ID,
    ),
]


async def take_session_turn(session_id: SessionId, service: ServiceDep) -> AsyncIterator[None]:
    """Take a turn at the session in the path, for the route's call.

    Raises:
        SessionLocked
    """
    async with service.turns.at("session", session_id):
        yield


async def take_run_turn(run_id: RunId, service: ServiceDep) -> AsyncIterator[None]:
    """Take a turn at the session of the run in the path, for the route's call.

    Raises:
        SessionLocked
    """

    def read() -> int | None:
        with service.db.read() as tx:
            return sessions.pk_of_run(tx, run_id)

    async with service.turns.at("pk", str(await service.threads.run(read))):
        yield


# After the principal in a route's arguments: who has no key takes no turn.
SessionTurn = Annotated[None, Depends(take_session_turn, scope="function")]
RunTurn = Annotated[None, Depends(take_run_turn, scope="function")]
