"""Metrics, as Prometheus scrapes them."""

from fastapi import APIRouter, Response

from api_stub.auth import MetricsRead, ServiceDep
from api_stub.errors import responses
from worker.observe.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])
TEXT: dict[str, object] = {
    "description": "Metrics, one sample a line.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


@router.get("/metrics", response_class=Response, responses={200: TEXT, **responses()})
def metrics(service: ServiceDep, _principal: MetricsRead) -> Response:
    """What this process counted, and how the installation stands. The key needs `runs:read`, and is bound to nobody."""
    return Response(service.installation.text(), media_type=CONTENT_TYPE)
