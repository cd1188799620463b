"""Reading and writing workers' rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_protocol.states import AttemptStatus
from fleet_server.database import EventRow, Transaction
from fleet_server.jobs.queries import OPEN
from fleet_server.tables import attempts, jobs, workers
from fleet_server.workers.failures import FailedAttempt
from fleet_server.workers.roster import Worker, worker_from, worker_values


def all_workers(connection: Connection) -> list[Worker]:
    return [worker_from(row) for row in connection.execute(select(workers)).mappings().all()]


async def running_jobs(connection: AsyncConnection) -> Mapping[WorkerId, list[JobId]]:
    """The jobs that each worker holds."""
    statement = select(attempts.c.worker_id, attempts.c.job_id).where(attempts.c.status.in_(OPEN))
    held: dict[WorkerId, list[JobId]] = defaultdict(list)
    for worker, job in (await connection.execute(statement)).all():
        held[worker].append(job)
    return held


async def failed_attempts(connection: AsyncConnection, most: int = 5000) -> list[FailedAttempt]:
    """The latest attempts that a trainer ended with an error, newest first."""
    columns = (attempts.c.worker_id, attempts.c.job_id, jobs.c.name, attempts.c.reason, attempts.c.tail)
    statement = (
        select(*columns)
        .join(jobs, jobs.c.job_id == attempts.c.job_id)
        .where(attempts.c.status == AttemptStatus.FAILED)
        .order_by(attempts.c.ended_at.desc())
        .limit(most)
    )
    return [FailedAttempt(*row) for row in (await connection.execute(statement)).all()]


def save(tx: Transaction, before: Worker | None, worker: Worker) -> None:
    if before is None:
        tx.connection.execute(insert(workers), worker_values(worker))
    else:
        tx.connection.execute(
            update(workers).where(workers.c.worker_id == worker.worker_id).values(worker_values(worker))
        )


def save_draining(tx: Transaction, worker: Worker) -> bool:
    """True when that changed anything."""
    same = (workers.c.worker_id == worker.worker_id, workers.c.draining != worker.draining)
    return bool(tx.connection.execute(update(workers).where(*same).values(draining=worker.draining)).rowcount)


def note(
    tx: Transaction, kind: str, actor: str, worker: Worker, row: dict[str, object], detail: str | None = None
) -> None:
    """The event of a change to a worker, with the row after it."""
    tx.events.append(
        EventRow(tx.next_event(), tx.now, kind, actor, row=row, detail=detail, worker_id=worker.worker_id)
    )


def flush_heard(
    tx: Transaction, heard: Mapping[WorkerId, datetime], beats: Mapping[AttemptId, datetime]
) -> None:
    """Write down when workers and attempts were last heard: no event, since nothing changed but a time."""
    _stamp(tx, [{"_key": key, "_at": at} for key, at in heard.items()], "workers")
    _stamp(tx, [{"_key": key, "_at": at} for key, at in beats.items()], "attempts")


def _stamp(tx: Transaction, rows: Sequence[dict[str, object]], table: str) -> None:
    if rows:
        tx.connection.execute(_STAMPS[table], rows)


_STAMPS = {
    "workers": update(workers)
    .where(workers.c.worker_id == bindparam("_key"))
    .values(last_heard_at=bindparam("_at")),
    "attempts": update(attempts)
    .where(attempts.c.attempt == bindparam("_key"))
    .values(last_heartbeat_at=bindparam("_at")),
}
