"""`POST /v1/prune`."""

from __future__ import annotations

from fastapi import APIRouter

from fleet_protocol.prune import PruneAnswer, PruneRequest
from fleet_server.access.guard import GuardedRoute
from fleet_server.services import Use

router = APIRouter(prefix="/v1", tags=["storage"], route_class=GuardedRoute)


@router.post("/prune")
async def prune(request: PruneRequest, use: Use) -> PruneAnswer:
    """Delete stored bytes that nothing refers to; as a dry run, only tell which they are."""
    return await use.prune.run(dry_run=request.dry_run)
