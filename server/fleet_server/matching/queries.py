"""The queue as the matching reads it: by kind of demand, so that its cost does not grow with its length."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, func, or_, select

from fleet_protocol.ids import WorkerId
from fleet_protocol.states import JobStatus
from fleet_server.jobs.model import Attempt, Job, attempt_from, job_from
from fleet_server.jobs.queries import OPEN
from fleet_server.tables import attempts, jobs

PENDING = jobs.c.status == JobStatus.PENDING


def _kinds() -> Select[Any]:
    """Every distinct demand among pending jobs by hopping through the index: a handful of look-ups, not a scan."""
    first = select(func.min(jobs.c.needs_digest).label("digest")).where(PENDING).cte("kinds", recursive=True)
    following = (
        select(func.min(jobs.c.needs_digest))
        .where(PENDING, jobs.c.needs_digest > first.c.digest)
        .scalar_subquery()
    )
    hops = first.union_all(select(following).where(first.c.digest.is_not(None)))
    return select(hops.c.digest).where(hops.c.digest.is_not(None))


def _held() -> Select[Any]:
    columns = (attempts.c.worker_id, jobs.c.needs_digest)
    # The id is what the index has; without it every look at the workers would read the whole queue.
    same = and_(jobs.c.job_id == attempts.c.job_id, jobs.c.attempt == attempts.c.attempt)
    statement = select(*columns, func.count()).join(jobs, same).where(attempts.c.status.in_(OPEN))
    return statement.group_by(*columns)


_KINDS = _kinds()
_HELD = _held()
_HEADS = (
    select(jobs)
    .where(
        PENDING,
        jobs.c.needs_digest == bindparam("digest"),
        or_(jobs.c.not_before.is_(None), jobs.c.not_before <= bindparam("now")),
    )
    .order_by(jobs.c.priority.desc(), jobs.c.queued_at, jobs.c.job_id)
    .limit(bindparam("count"))
)
_NEXT_READY = select(func.min(jobs.c.not_before)).where(PENDING, jobs.c.not_before > bindparam("now"))
_BY_CLAIM = select(attempts).where(attempts.c.claim_id.in_(bindparam("claims", expanding=True)))


def pending_kinds(connection: Connection) -> list[str]:
    return list(connection.execute(_KINDS).scalars().all())


def heads(connection: Connection, digest: str, now: datetime, count: int) -> list[Job]:
    """The first `count` jobs of one kind that may start now, in the queue's order."""
    asked = {"digest": digest, "now": now, "count": count}
    return [job_from(row) for row in connection.execute(_HEADS, asked).mappings().all()]


def any_of_kind(connection: Connection, digest: str) -> Job:
    statement = select(jobs).where(jobs.c.needs_digest == digest).limit(1)
    return job_from(connection.execute(statement).mappings().one())


def next_ready(connection: Connection, now: datetime) -> datetime | None:
    """When the next job that waits for a second try may start."""
    ready: datetime | None = connection.scalar(_NEXT_READY, {"now": now})
    return ready


def held_kinds(connection: Connection) -> list[tuple[WorkerId, str, int]]:
    """What each worker trains: the kinds of demand of the attempts that hold a lease, and how many of each."""
    return [(worker, digest, count) for worker, digest, count in connection.execute(_HELD)]


def attempts_by_claim(connection: Connection, claims: Sequence[str]) -> dict[str, Attempt]:
    """Attempts that these claims were answered with before."""
    rows = connection.execute(_BY_CLAIM, {"claims": claims}).mappings()
    found = [attempt_from(row) for row in rows]
    return {attempt.claim_id: attempt for attempt in found}
