"""Metrics, as Prometheus scrapes them."""

from fastapi import APIRouter, Response

from api_stub.auth import Rooms, Scraping
from api_stub.errors import responses
from worker.observe.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])
TEXT: dict[str, object] = {
    "description": "Metrics, one sample a line.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


@router.get("/metrics", response_class=Response, responses={200: TEXT, **responses()})
def metrics(rooms: Rooms, _asking: Scraping) -> Response:
    """What this process counted, and how the installation stands. The key needs `runs:read`, and is bound to nobody."""
    return Response(rooms.installation.text(), media_type=CONTENT_TYPE)
