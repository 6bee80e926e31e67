"""Checks the API key of a request and gives routes the principal that it stands for, never the key itself.

Every request needs a key, except the two probes. A route declares the scope that it needs by the type of its
`principal`: `RunsRead`, or `AnyScope` if any key will do. The scope is checked here and nowhere else. Which rows a key
may see is checked where they are read, by `store.sessions.visible`.
"""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool

from api_stub.service import Service
from worker.domain.principal import Principal, Scope
from worker.errors import KeyMissing
from worker.store import api_keys

_bearer = HTTPBearer(scheme_name="key", description="A key of 'team-sessions keys create'.", auto_error=False)


async def get_service(request: Request) -> Service:
    """Return the rooms of this process."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


async def get_principal(
    request: Request,
    service: Annotated[Service, Depends(get_service)],
    needed: SecurityScopes,
    sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Return who asks, and leave the id of the key for the log.

    Raises:
        KeyMissing, KeyInvalid, ScopeMissing, RateLimited
    """
    if sent is None:
        raise KeyMissing()
    key = sent.credentials.strip()
    request.state.key_id = api_keys.public_id(key)
    found = service.keys.known(key)
    if found is None:  # on a thread only then: four of them a request were a fifth of what accepting a run cost
        found = await run_in_threadpool(service.keys.principal, key)
    service.rate_limiter.take(found.key_id)
    for scope in needed.scopes:
        found.check_scope(Scope(scope))
    return found


async def get_metrics_reader(
    request: Request,
    service: Annotated[Service, Depends(get_service)],
    sent: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Principal:
    """Return who reads metrics: also while the database is away, if it was known a moment ago.

    Raises:
        KeyMissing, KeyInvalid, ScopeMissing, KeyBound, RateLimited, DatabaseUnavailable
    """
    if sent is None:
        raise KeyMissing()
    key = sent.credentials.strip()
    request.state.key_id = api_keys.public_id(key)
    found = await run_in_threadpool(service.metrics_access.check, key)
    service.rate_limiter.take(found.key_id)
    return found


ServiceDep = Annotated[Service, Depends(get_service)]
AnyScope = Annotated[Principal, Security(get_principal)]
MetricsRead = Annotated[Principal, Security(get_metrics_reader, scopes=[Scope.RUNS_READ.value])]  # it checks itself
RunsRead = Annotated[Principal, Security(get_principal, scopes=[Scope.RUNS_READ.value])]
RunsWrite = Annotated[Principal, Security(get_principal, scopes=[Scope.RUNS_WRITE.value])]
SessionsRead = Annotated[Principal, Security(get_principal, scopes=[Scope.SESSIONS_READ.value])]
SessionsWrite = Annotated[Principal, Security(get_principal, scopes=[Scope.SESSIONS_WRITE.value])]
Batches = Annotated[Principal, Security(get_principal, scopes=[Scope.BATCHES.value])]
