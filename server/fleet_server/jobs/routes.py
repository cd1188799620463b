"""`/v1/jobs` and `/v1/job/{ref}`: an id, a unique prefix of one, or a unique name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fleet_protocol.jobs import (
    AcceptRequest,
    CancelRequest,
    Explanation,
    JobDetail,
    JobPage,
    JobQuery,
    JobView,
    RequeueRequest,
)
from fleet_server.access.guard import Actor, GuardedRoute
from fleet_server.services import Use

router = APIRouter(prefix="/v1", tags=["jobs"], route_class=GuardedRoute)


@router.get("/jobs")
async def list_jobs(query: Annotated[JobQuery, Query()], use: Use) -> JobPage:
    """One page of jobs, filtered and sorted; `next` is the cursor of the following page."""
    return await use.jobs.page(query)


@router.get("/job/{ref}")
async def get_job(ref: str, use: Use) -> JobDetail:
    """Everything known of one job."""
    return await use.jobs.detail(ref)


@router.get("/job/{ref}/explain")
async def explain_job(ref: str, use: Use) -> Explanation:
    """Why a job is where it is, worker by worker, each refusal with its numbers."""
    return await use.jobs.explain(ref)


@router.post("/job/{ref}/cancel")
async def cancel_job(ref: str, request: CancelRequest, use: Use, actor: Actor) -> JobView:
    """A pending job ends at once; a claimed or running one as soon as its worker has stopped it."""
    return await use.jobs.cancel(ref, actor, request.reason)


@router.post("/job/{ref}/requeue")
async def requeue_job(ref: str, request: RequeueRequest, use: Use, actor: Actor) -> JobView:
    """Try a failed or cancelled job again, with its counters at zero."""
    return await use.jobs.requeue(ref, actor, request)


@router.post("/job/{ref}/accept-result")
async def accept_result(ref: str, request: AcceptRequest, use: Use, actor: Actor) -> JobView:
    """Complete a job with the artifact of an attempt that had lost it; never while another attempt holds it."""
    return await use.jobs.accept(ref, actor, request)
