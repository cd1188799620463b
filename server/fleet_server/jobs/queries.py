"""Reading jobs and attempts. Every function takes the connection first; the async ones are for requests."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_protocol.errors import ProblemItem
from fleet_protocol.ids import AttemptId, JobId
from fleet_protocol.jobs import JobQuery
from fleet_protocol.states import AttemptStatus, JobStatus
from fleet_server.errors import AmbiguousJob, Malformed, UnknownAttempt, UnknownJob
from fleet_server.jobs.model import ATTEMPT_COLUMNS, JOB_COLUMNS, Attempt, Job, attempt_from, job_from
from fleet_server.tables import Utc, attempts, jobs

OPEN = [AttemptStatus.CLAIMED, AttemptStatus.RUNNING]
# Made once: to make such a statement costs more than to carry it out.
_JOB = select(jobs).where(jobs.c.job_id == bindparam("id"))
_ATTEMPT = select(attempts).where(attempts.c.attempt == bindparam("id"))
_BOTH = (
    select(*(jobs.c[name] for name in JOB_COLUMNS), *(attempts.c[name] for name in ATTEMPT_COLUMNS))
    .join_from(attempts, jobs, jobs.c.job_id == attempts.c.job_id)
    .where(attempts.c.attempt == bindparam("id"))
)


def job_and_attempt(connection: Connection, job_id: JobId, attempt: AttemptId) -> tuple[Job, Attempt]:
    """The rows a worker's call is about; UnknownJob or UnknownAttempt when there are none."""
    row = connection.execute(_BOTH, {"id": attempt}).one_or_none()
    if row is None or row[0] != job_id:  # the first of JOB_COLUMNS
        if connection.execute(_JOB, {"id": job_id}).one_or_none() is None:
            raise UnknownJob(f"There is no job {job_id}.")
        raise UnknownAttempt(f"Job {job_id} has no attempt {attempt}.")
    return _both(row)


def _both(row: Row[Any]) -> tuple[Job, Attempt]:
    return Job(*row[: len(JOB_COLUMNS)]), Attempt(*row[len(JOB_COLUMNS) :])


def job_row(connection: Connection, job_id: JobId) -> Job:
    return job_from(connection.execute(_JOB, {"id": job_id}).mappings().one())


def all_jobs(connection: Connection) -> list[Job]:
    columns = [jobs.c[name] for name in JOB_COLUMNS]  # by position: a manifest's plan reads them all
    return [Job(*row) for row in connection.execute(select(*columns))]


class Pending(NamedTuple):
    """As much of a pending job as tells why it waits."""

    job_id: JobId
    needs_digest: str
    reason: str | None
    not_before: datetime | None


def pending(connection: Connection) -> list[Pending]:
    columns = [jobs.c[name] for name in Pending._fields]
    statement = select(*columns).where(jobs.c.status == JobStatus.PENDING)
    return [Pending(*row) for row in connection.execute(statement)]


def open_attempts(connection: Connection) -> list[tuple[Job, Attempt]]:
    """Every attempt that holds a lease, with its job."""
    rows = connection.execute(select(attempts).where(attempts.c.status.in_(OPEN))).mappings().all()
    found = [attempt_from(row) for row in rows]
    holding = select(jobs).where(jobs.c.job_id.in_([attempt.job_id for attempt in found]))
    held = {row["attempt"]: job_from(row) for row in connection.execute(holding).mappings()}
    return [(held[attempt.attempt], attempt) for attempt in found if attempt.attempt in held]


async def find_job(connection: AsyncConnection, reference: str) -> Job:
    """By id, unique id prefix of at least four digits, or unique exact name; UnknownJob, AmbiguousJob."""
    conditions = [jobs.c.job_id == reference, jobs.c.name == reference]
    if 4 <= len(reference) < 16 and set(reference) <= set("0123456789abcdef"):
        conditions.append(jobs.c.job_id.startswith(reference))
    rows = (await connection.execute(select(jobs).where(or_(*conditions)).limit(20))).mappings().all()
    exact = [row for row in rows if row["job_id"] == reference]
    found = exact or rows
    if not found:
        raise UnknownJob(f"There is no job {reference!r}.")
    if len(found) > 1:
        items = tuple(ProblemItem(key=row["job_id"], message=row["name"]) for row in found)
        raise AmbiguousJob(f"{len(found)} jobs are called {reference!r}; use an id.", items=items)
    return job_from(found[0])


async def attempts_of(connection: AsyncConnection, job_id: JobId) -> list[Attempt]:
    statement = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
    return [attempt_from(row) for row in (await connection.execute(statement)).mappings().all()]


async def find_attempt(connection: AsyncConnection, attempt: AttemptId) -> Attempt | None:
    row = (await connection.execute(_ATTEMPT, {"id": attempt})).mappings().one_or_none()
    return attempt_from(row) if row else None


async def job_and_attempt_async(
    connection: AsyncConnection, attempt: AttemptId
) -> tuple[Job | None, Attempt | None]:
    row = (await connection.execute(_BOTH, {"id": attempt})).one_or_none()
    return _both(row) if row else (None, None)


async def count_by_status(connection: AsyncConnection) -> dict[JobStatus, int]:
    rows = (await connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))).all()
    return {status: count for status, count in rows}


SORTS = {
    "queued": jobs.c.queued_at,
    "updated": jobs.c.updated_at,
    "name": jobs.c.name,
    "status": jobs.c.status,
    "priority": jobs.c.priority,
}


async def list_jobs(connection: AsyncConnection, wanted: JobQuery) -> tuple[list[Job], str | None]:
    """One page of jobs and the cursor of the next; the order is total, so pages neither repeat nor skip."""
    statement = _filtered(wanted)
    column, descending = SORTS[wanted.sort.lstrip("-")], wanted.sort.startswith("-")
    if wanted.cursor is not None:
        statement = statement.where(_beyond(column, descending, _decode(wanted.cursor, column)))
    order = column.desc() if descending else column.asc()
    statement = statement.order_by(order, jobs.c.job_id).limit(wanted.limit + 1)
    rows = [job_from(row) for row in (await connection.execute(statement)).mappings().all()]
    page = rows[: wanted.limit]
    return page, _encode(page[-1], column.name) if len(rows) > wanted.limit else None


def _filtered(wanted: JobQuery) -> Select[Any]:
    statement = select(jobs)
    if wanted.status:
        statement = statement.where(jobs.c.status.in_(wanted.status))
    for column, value in (
        (jobs.c.model, wanted.model),
        (jobs.c.mode, wanted.mode),
        (jobs.c.worker, wanted.worker),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.q:
        statement = statement.where(
            or_(
                jobs.c.name.icontains(wanted.q, autoescape=True),
                jobs.c.job_id.startswith(wanted.q, autoescape=True),
            )
        )
    return statement


def _beyond(column: Any, descending: bool, at: tuple[Any, str]) -> Any:
    value, job_id = at
    further = column < value if descending else column > value
    return or_(further, and_(column == value, jobs.c.job_id > job_id))


def _encode(job: Job, column: str) -> str:
    value = getattr(job, column)
    plain = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(json.dumps([column, plain, job.job_id]).encode()).decode()


def _decode(cursor: str, column: Any) -> tuple[Any, str]:
    """The value and the id to go on after; Refusal unless it is a cursor of a list in this column's order."""
    try:
        name, plain, job_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        kind = datetime if isinstance(column.type, Utc) else column.type.python_type
        value = datetime.fromisoformat(plain) if kind is datetime else plain
        if name != column.name or not isinstance(value, kind) or len(str(plain)) > 1000:
            raise ValueError(name)
    except (ValueError, TypeError):
        raise Malformed("The cursor is not one that this coordinator gave; start the list anew.") from None
    return value, str(job_id)
