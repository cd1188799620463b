"""Reading and writing artifacts and who uploaded them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_protocol.ids import AttemptId, JobId, Sha256
from fleet_protocol.jobs import ArtifactView
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import CompleteRequest
from fleet_server.database import Transaction
from fleet_server.jobs.model import Attempt, Job
from fleet_server.tables import artifacts, jobs, uploads

_MINE = (uploads.c.attempt == bindparam("by"), uploads.c.sha256 == bindparam("id"))
_UPLOADED = select(uploads.c.sha256).where(*_MINE)
_SAY = update(uploads).where(*_MINE).values(provenance=bindparam("provenance"), metrics=bindparam("metrics"))
_PATH = select(artifacts.c.path).where(artifacts.c.sha256 == bindparam("id"))


def uploaded(connection: Connection, attempt: AttemptId, sha256: str) -> bool:
    """Whether this attempt brought this artifact, whole and verified."""
    return connection.scalar(_UPLOADED, {"by": attempt, "id": sha256}) is not None


def save_evidence(connection: Connection, request: CompleteRequest) -> None:
    """Keep what an attempt says of its artifact, whether it may complete the job or not."""
    said = request.model_dump(mode="json", include={"provenance", "metrics"})
    connection.execute(_SAY, {**said, "by": request.attempt, "id": request.artifact})


@dataclass(frozen=True, slots=True)
class LateUpload:
    attempt: AttemptId
    sha256: Sha256
    metrics: Mapping[str, Any]
    trainer: str | None


def late_upload(connection: Connection, job_id: JobId, attempt: AttemptId | None) -> LateUpload | None:
    """The artifact that the named attempt brought or, without a name, the one brought last."""
    statement = (
        select(uploads).where(uploads.c.job_id == job_id).order_by(uploads.c.uploaded_at.desc()).limit(1)
    )
    if attempt is not None:
        statement = statement.where(uploads.c.attempt == attempt)
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    return LateUpload(
        row["attempt"], row["sha256"], row["metrics"] or {}, (row["provenance"] or {}).get("trainer")
    )


def save_upload(tx: Transaction, job: Job, attempt: Attempt, sha256: str, size_bytes: int, path: str) -> bool:
    """Note the artifact, if its bytes are new, and that this attempt brought it; False if that was noted before."""
    if tx.connection.scalar(_PATH, {"id": sha256}) is None:
        tx.connection.execute(
            insert(artifacts).values(
                sha256=sha256,
                size_bytes=size_bytes,
                model=job.model,
                mode=job.mode,
                path=path,
                stored_at=tx.now,
            )
        )
    if uploaded(tx.connection, attempt.attempt, sha256):
        return False
    tx.connection.execute(
        insert(uploads).values(
            attempt=attempt.attempt,
            sha256=sha256,
            job_id=job.job_id,
            worker=attempt.worker,
            uploaded_at=tx.now,
        )
    )
    return True


@dataclass(frozen=True, slots=True)
class Unreferred:
    """An artifact that no job has, and that none could be given."""

    sha256: Sha256
    size_bytes: int
    path: str
    stored_at: datetime


def unreferred(connection: Connection, sha256: Sha256 | None = None) -> list[Unreferred]:
    """All of them, or the one; what a job that is not completed was brought too late might still be accepted."""
    same = uploads.c.sha256 == artifacts.c.sha256
    is_open = exists().where(same, uploads.c.job_id == jobs.c.job_id, jobs.c.status != JobStatus.COMPLETED)
    is_result = exists().where(jobs.c.artifact == artifacts.c.sha256)
    columns = [artifacts.c[name] for name in Unreferred.__slots__]
    statement = select(*columns).where(~or_(is_open, is_result))
    if sha256 is not None:
        statement = statement.where(artifacts.c.sha256 == sha256)
    return [Unreferred(*row) for row in connection.execute(statement)]


def remove(tx: Transaction, sha256: Sha256) -> str | None:
    """Note that an artifact is to go; its path, or None, and nothing is changed, while something refers to it."""
    for found in unreferred(tx.connection, sha256):
        for table in (uploads, artifacts):
            tx.connection.execute(delete(table).where(table.c.sha256 == sha256))
        return found.path
    return None


async def artifact_path(connection: AsyncConnection, sha256: str) -> str | None:
    path: str | None = await connection.scalar(_PATH, {"id": sha256})
    return path


async def list_uploads(connection: AsyncConnection) -> list[ArtifactView]:
    """Every upload, the newest first."""
    statement = (
        select(uploads, artifacts.c.size_bytes, artifacts.c.path, jobs.c.model, jobs.c.mode)
        .join(artifacts, artifacts.c.sha256 == uploads.c.sha256)
        .join(jobs, jobs.c.job_id == uploads.c.job_id)
        .order_by(uploads.c.uploaded_at.desc(), uploads.c.attempt)
    )
    return [
        ArtifactView.model_validate(dict(row))
        for row in (await connection.execute(statement)).mappings().all()
    ]
