"""`/v1/health` for everybody, `/v1/ready` for those who may look: it names what is not ready."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from fleet_protocol.health import Health, Part, Ready
from fleet_protocol.version import program_version
from fleet_server.access.guard import GuardedRoute
from fleet_server.database import DatabaseLost
from fleet_server.services import Use

PATIENCE_SECONDS = 5.0
"""A writer that needs longer for nothing is not ready."""

router = APIRouter(prefix="/v1", tags=["health"], route_class=GuardedRoute)


@router.get("/health")
async def health() -> Health:
    """The process answers. Says nothing about anything else."""
    return Health()


@router.get("/ready", responses={503: {"model": Ready}})
async def ready(use: Use, response: Response) -> Ready:
    """Whether the coordinator can do its work, part by part."""
    parts = {"database": await _database(use), "loops": _loops(use)}
    is_ready = all(part.ok for part in parts.values())
    response.status_code = 200 if is_ready else 503
    return Ready(ready=is_ready, version=program_version(), fleet=use.manifests.fleet, parts=parts)


async def _database(use: Use) -> Part:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with use.database.read() as connection:
                await connection.execute(text("select 1"))
            await use.database.writer.run(lambda tx: None)
    except TimeoutError:
        return Part(ok=False, detail=f"nothing was written for {PATIENCE_SECONDS:g} s")
    except DatabaseLost:
        return Part(ok=False, detail="the connection is gone: another coordinator may be the active one")
    except SQLAlchemyError as error:
        return Part(ok=False, detail=type(error).__name__)
    return Part(ok=True)


def _loops(use: Use) -> Part:
    stopped = sorted(task.get_name() for task in use.loops if task.done())
    return Part(ok=not stopped, detail=f"stopped: {', '.join(stopped)}" if stopped else None)
