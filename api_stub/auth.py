"""Every request but the two of a probe carries a key; a route gets who asks, and never the key.

A route says which scope it needs by the type of its `asking`: `RunsRead`, or `Asking` for none in particular. Here, and
nowhere else, the scope is checked. Whose things a key may touch is checked where they are read, by
`store.sessions.visible`.
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


async def service(request: Request) -> Service:
    """Return the rooms of this process."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


async def principal(
    request: Request,
    rooms: Annotated[Service, Depends(service)],
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
    found = rooms.keys.known(key)
    if found is None:  # on a thread only then: four of them a request were a fifth of what accepting a run cost
        found = await run_in_threadpool(rooms.keys.principal, key)
    rooms.rates.take(found.key_id)
    for scope in needed.scopes:
        found.check_scope(Scope(scope))
    return found


async def scraper(
    request: Request,
    rooms: Annotated[Service, Depends(service)],
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
    found = await run_in_threadpool(rooms.scrapers.check, key)
    rooms.rates.take(found.key_id)
    return found


Rooms = Annotated[Service, Depends(service)]
Asking = Annotated[Principal, Security(principal)]
Scraping = Annotated[Principal, Security(scraper, scopes=[Scope.RUNS_READ.value])]  # it checks itself
RunsRead = Annotated[Principal, Security(principal, scopes=[Scope.RUNS_READ.value])]
RunsWrite = Annotated[Principal, Security(principal, scopes=[Scope.RUNS_WRITE.value])]
SessionsRead = Annotated[Principal, Security(principal, scopes=[Scope.SESSIONS_READ.value])]
SessionsWrite = Annotated[Principal, Security(principal, scopes=[Scope.SESSIONS_WRITE.value])]
Batches = Annotated[Principal, Security(principal, scopes=[Scope.BATCHES.value])]
