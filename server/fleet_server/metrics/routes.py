"""Metrics: `POST` for agents, point by point; `GET` for readers, curve by curve."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from fleet_protocol.ids import UUID_PATTERN, AttemptId
from fleet_protocol.metrics import MAX_READ_POINTS, JobMetrics, MetricsAnswer, MetricsRequest
from fleet_server.access.guard import GuardedRoute
from fleet_server.services import Use

router = APIRouter(prefix="/v1", tags=["metrics"], route_class=GuardedRoute)


@router.post("/attempt/{attempt}/metrics")
async def append_metrics(
    attempt: Annotated[AttemptId, Path(pattern=UUID_PATTERN)], request: MetricsRequest, use: Use
) -> MetricsAnswer:
    """Points of an attempt, numbered from 0; those that are there already are passed over."""
    return MetricsAnswer(next=await use.metrics.append(attempt, request))


@router.get("/job/{ref}/metrics", response_model=JobMetrics)
async def get_job_metrics(
    ref: str,
    use: Use,
    attempt: Annotated[AttemptId | None, Query(pattern=UUID_PATTERN)] = None,
    points: Annotated[int, Query(ge=4, le=MAX_READ_POINTS)] = 1000,
    whole: bool = False,
) -> Response:
    """An attempt's curves, each thinned to at most `points`; with `whole` joined to those of the attempts before."""
    metrics = await use.metrics.of_job(ref, attempt, points, whole=whole)
    return Response(metrics.model_dump_json(), media_type="application/json")
