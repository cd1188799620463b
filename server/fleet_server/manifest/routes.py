"""`/v1/manifest`: what would change, change it, what holds."""

from __future__ import annotations

from fastapi import APIRouter

from fleet_protocol.plan import CurrentManifest, Plan, ReloadRequest
from fleet_server.access.guard import Actor, GuardedRoute
from fleet_server.services import Use

router = APIRouter(prefix="/v1/manifest", tags=["manifest"], route_class=GuardedRoute)


@router.post("/plan")
async def plan_manifest(use: Use, request: ReloadRequest | None = None) -> Plan:
    """What a reload would do. An empty body means the coordinator's own file."""
    return await use.manifests.plan(request or ReloadRequest())


@router.post("/reload")
async def reload_manifest(use: Use, actor: Actor, request: ReloadRequest | None = None) -> Plan:
    """Apply a manifest in one transaction. An empty body means the coordinator's own file."""
    return await use.manifests.reload(request or ReloadRequest(), actor)


@router.get("")
async def get_manifest(use: Use) -> CurrentManifest:
    """The manifest that was applied last."""
    return await use.manifests.current()
