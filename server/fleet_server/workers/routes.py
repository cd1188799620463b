"""`/v1/worker/hello`, `/v1/workers` and what a worker says about its attempts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from fleet_protocol.ids import JOB_ID_PATTERN, UUID_PATTERN, AttemptId, JobId
from fleet_protocol.workers import (
    CheckpointRequest,
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    DrainRequest,
    FailRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    HelloAnswer,
    HelloRequest,
    ReleaseRequest,
    StartRequest,
    TransitionAnswer,
    WorkerPage,
    WorkerView,
)
from fleet_server.access.guard import Actor, CallerOf, GuardedRoute
from fleet_server.services import Use
from fleet_server.sockets import hanging_up

router = APIRouter(prefix="/v1", tags=["workers"], route_class=GuardedRoute)
Job = Annotated[JobId, Path(pattern=JOB_ID_PATTERN)]
Attempt = Annotated[AttemptId, Path(pattern=UUID_PATTERN)]


@router.post("/worker/hello")
async def hello(request: HelloRequest, use: Use) -> HelloAnswer:
    """Register a worker and learn what is to become of the attempts it holds."""
    return await use.workers.hello(request)


@router.post(
    "/job/claim", response_model=ClaimAnswer, responses={204: {"description": "Nothing fits within `wait`."}}
)
async def claim(
    request: ClaimRequest, connection: Request, use: Use, caller: CallerOf
) -> ClaimAnswer | Response:
    """Ask for one job; held for up to `wait` seconds while nothing fits."""
    async with hanging_up(connection) as gone:
        use.access.bearers.wait(caller, gone)
        return await use.workers.claim(request, gone) or Response(status_code=204)


@router.post("/job/{job_id}/start")
async def start(job_id: Job, request: StartRequest, use: Use) -> TransitionAnswer:
    """The trainer of a claimed job was started."""
    return await use.workers.start(job_id, request)


@router.post("/job/{job_id}/heartbeat")
async def heartbeat(job_id: Job, request: HeartbeatRequest, use: Use) -> HeartbeatAnswer:
    """The trainer lives; the answer says whether it should go on."""
    return await use.workers.heartbeat(job_id, request)


@router.post("/job/{job_id}/complete")
async def complete(job_id: Job, request: CompleteRequest, use: Use) -> TransitionAnswer:
    """The artifact is uploaded and the job is done."""
    return await use.workers.complete(job_id, request)


@router.post("/job/{job_id}/fail")
async def fail(job_id: Job, request: FailRequest, use: Use) -> TransitionAnswer:
    """The trainer ended badly."""
    return await use.workers.fail(job_id, request)


@router.post("/job/{job_id}/release")
async def release(job_id: Job, request: ReleaseRequest, use: Use) -> TransitionAnswer:
    """The attempt is given back without blame."""
    return await use.workers.release(job_id, request)


@router.put("/attempt/{attempt}/checkpoint")
async def save_checkpoint(attempt: Attempt, request: CheckpointRequest, use: Use) -> TransitionAnswer:
    """From which blob, uploaded before, the job would go on if this attempt came to nothing."""
    return await use.workers.checkpoint(attempt, request)


@router.get("/workers")
async def list_workers(use: Use) -> WorkerPage:
    """Every worker that ever said hello; live ones first."""
    return WorkerPage(workers=tuple(await use.workers.views()))


@router.post("/worker/{ref:path}/drain")
async def drain_worker(ref: str, request: DrainRequest, use: Use, actor: Actor) -> WorkerView:
    """Hand no new jobs to a worker; what it trains goes on."""
    return await use.workers.drain(ref, actor, request.reason)


@router.post("/worker/{ref:path}/resume")
async def resume_worker(ref: str, request: DrainRequest, use: Use, actor: Actor) -> WorkerView:
    """Hand jobs to a drained worker again."""
    return await use.workers.drain(ref, actor, request.reason, draining=False)
