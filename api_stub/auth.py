"""Every request but the two of a probe carries a key; a route gets who asks, and never the key."""

from typing import Annotated

from fastapi import Depends, Header, Request

from api_stub.service import Service
from worker.domain.principal import Principal


def service(request: Request) -> Service:
    """Return the rooms of this process."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


def principal(
    rooms: Annotated[Service, Depends(service)], authorization: Annotated[str | None, Header()] = None
) -> Principal:
    """Return who asks. Raises KeyMissing, KeyInvalid."""
    return rooms.keys.principal(authorization)


Rooms = Annotated[Service, Depends(service)]
Asking = Annotated[Principal, Depends(principal)]
