"""`/metrics`, where Prometheus looks for it."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from fleet_server.access.guard import GuardedRoute
from fleet_server.exposition import service
from fleet_server.services import Use

router = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def scrape(use: Use) -> Response:
    """Everything a dashboard or an alert needs, as Prometheus reads it."""
    await service.look(use)
    return Response(use.meters.page(), media_type=CONTENT_TYPE_LATEST)
