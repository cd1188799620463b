"""What other tools shall know of an attempt: its settings, its curves, and what its test came to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fleet_client.compare import identity
from fleet_client.errors import FleetError
from fleet_protocol.jobs import AttemptView, JobDetail
from fleet_protocol.metrics import JobMetrics


class NotExportable(FleetError):
    """There is nothing of the job to export yet."""


@dataclass(frozen=True, slots=True)
class Point:
    """`value` is NaN where the trainer told none; `at` in Unix seconds."""

    name: str
    step: int
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """A job's last attempt, with the curves of those that it went on from."""

    job: JobDetail
    attempt: AttemptView
    points: tuple[Point, ...]

    @property
    def tags(self) -> dict[str, str]:
        """The first two tell the run from every other one."""
        job = self.job
        tags = {"fleet.job_id": job.job_id, "fleet.attempt": self.attempt.attempt, "fleet.job": job.name}
        tags |= {"fleet.worker": self.attempt.worker, "fleet.status": job.status}
        return tags | ({"fleet.artifact": job.artifact} if job.artifact else {})

    @property
    def params(self) -> dict[str, str]:
        """What makes the job's id; a text as it is, anything else as JSON."""
        told = {key: value for key, value in identity(self.job).items() if value is not None}
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}


def run_of(job: JobDetail, curves: JobMetrics) -> Run:
    """The run of the attempt that the curves belong to; NotExportable before one has started."""
    attempt = next((one for one in job.history if one.attempt == curves.attempt), None)
    if attempt is None or attempt.started_at is None:
        raise NotExportable(f"{job.name} has not run yet.", f"fleet explain {job.job_id}")
    points = sorted(
        (
            Point(name, step, math.nan if value is None else value, at)
            for name, series in curves.series.items()
            for step, value, at in series
        ),
        key=lambda point: (point.at, point.step, point.name),
    )
    return Run(job, attempt, (*points, *results(job, attempt, max((one.step for one in points), default=0))))


def results(job: JobDetail, attempt: AttemptView, step: int) -> Iterator[Point]:
    """The test's metrics under names that no curve has, at the last step."""
    at = (attempt.ended_at or attempt.started_at or attempt.created_at).timestamp()
    for name, metric in job.metrics.items():
        ends: Mapping[str, float | None] = {"": metric.value, ".low": metric.low, ".high": metric.high}
        for suffix, value in ends.items():
            if value is not None:
                yield Point(f"test/{name}{suffix}", step, value, at)
