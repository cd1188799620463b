"""A job's and an attempt's rows as values, for the pure decisions about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from fleet_protocol.ids import AttemptId, JobId, Sha256, WorkerId
from fleet_protocol.jobs import AttemptView, JobSpec, JobView, Metric, Progress
from fleet_protocol.states import AttemptStatus, JobStatus, LogState


@dataclass(frozen=True, slots=True)
class Job:
    """One row of `jobs`."""

    job_id: JobId
    name: str
    model: str
    mode: str
    spec: Mapping[str, Any]
    needs_digest: str
    priority: int
    status: JobStatus
    created_at: datetime
    queued_at: datetime
    updated_at: datetime
    reason: str | None = None
    attempts: int = 0
    errors: int = 0
    lost: int = 0
    generation: int = 0
    attempt: AttemptId | None = None
    worker_id: WorkerId | None = None
    worker: str | None = None
    avoid_worker_id: WorkerId | None = None
    artifact: Sha256 | None = None
    checkpoint: Sha256 | None = None
    metrics: Mapping[str, Any] | None = None
    code: str | None = None
    cancel_requested: bool = False
    in_manifest: bool = True
    not_before: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    version: int = 0

    @property
    def specification(self) -> JobSpec:
        return JobSpec.model_validate(self.spec)

    def view(self, reason: str | None = None, progress: Progress | None = None) -> JobView:
        """The row as the wire shows it; `reason` replaces a pending job's own, which is only known when asked."""
        return JobView.model_construct(
            job_id=self.job_id,
            name=self.name,
            model=self.model,
            mode=self.mode,
            status=self.status,
            reason=reason or self.reason,
            priority=self.priority,
            attempts=self.attempts,
            worker=self.worker,
            attempt=self.attempt,
            artifact=self.artifact,
            metrics={name: Metric.model_validate(value) for name, value in (self.metrics or {}).items()},
            progress=progress,
            cancel_requested=self.cancel_requested,
            in_manifest=self.in_manifest,
            created_at=self.created_at,
            queued_at=self.queued_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            updated_at=self.updated_at,
            version=self.version,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of `attempts`."""

    attempt: AttemptId
    job_id: JobId
    number: int
    worker_id: WorkerId
    worker: str
    claim_id: str
    status: AttemptStatus
    created_at: datetime
    reason: str | None = None
    exit_code: int | None = None
    tail: str | None = None
    artifact: Sha256 | None = None
    checkpoint: Sha256 | None = None
    log_bytes: int | None = None
    log_state: LogState | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_heartbeat_at: datetime | None = None

    def view(self) -> AttemptView:
        return AttemptView.model_validate(self, from_attributes=True)


JOB_COLUMNS = tuple(column.name for column in fields(Job))
ATTEMPT_COLUMNS = tuple(column.name for column in fields(Attempt))


def job_from(row: RowMapping) -> Job:
    return Job(**{name: row[name] for name in JOB_COLUMNS})


def attempt_from(row: RowMapping) -> Attempt:
    return Attempt(
        **{**{name: row[name] for name in ATTEMPT_COLUMNS}, "status": AttemptStatus(row["status"])}
    )


def job_values(job: Job) -> dict[str, Any]:
    values = {name: getattr(job, name) for name in JOB_COLUMNS}
    return {**values, "metrics": dict(job.metrics or {}), "spec": dict(job.spec)}


def attempt_values(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in ATTEMPT_COLUMNS}


def code_of(spec: JobSpec, trainer: str | None) -> str | None:
    """What would train this job: its own command by digest, else the built-in trainer by version."""
    if spec.program is None:
        return trainer and f"trainer {trainer}"
    return f"command {hashlib.sha256(json.dumps(spec.program.command).encode()).hexdigest()[:16]}"
