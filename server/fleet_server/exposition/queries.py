"""Counts for a scrape: grouped by the database, so that ten thousand jobs cost as little as ten."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, case, func, select

from fleet_protocol.states import JobStatus
from fleet_server.tables import jobs


def pending_by_kind(connection: Connection, now: datetime) -> dict[str, tuple[int, int]]:
    """By the digest of what they need: how many are pending, and how many of them pause before another try."""
    pauses = func.sum(case((jobs.c.not_before > now, 1), else_=0))
    statement = (
        select(jobs.c.needs_digest, func.count(), pauses)
        .where(jobs.c.status == JobStatus.PENDING)
        .group_by(jobs.c.needs_digest)
    )
    return {digest: (count, paused) for digest, count, paused in connection.execute(statement)}
