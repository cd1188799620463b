"""Which blobs there are: a row says that the bytes are stored, for those who decide within a transaction."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select

from fleet_protocol.ids import JobId, Sha256
from fleet_protocol.states import JobStatus
from fleet_server.database import Transaction
from fleet_server.tables import blobs, jobs

OVER = [status for status in JobStatus if status.is_terminal]
REFERENCES = (
    jobs.c.checkpoint,
    jobs.c.spec["dataset"]["sha256"].as_string(),
    jobs.c.spec["program"]["source"].as_string(),
)


def known(connection: Connection, wanted: Collection[Sha256]) -> set[Sha256]:
    """Those of `wanted` that are stored."""
    return set(connection.scalars(select(blobs.c.sha256).where(blobs.c.sha256.in_(wanted))))


def save(tx: Transaction, sha256: Sha256, size_bytes: int) -> None:
    """Note a blob whose bytes are stored; a second time changes nothing."""
    if not known(tx.connection, [sha256]):
        tx.connection.execute(insert(blobs).values(sha256=sha256, size_bytes=size_bytes, stored_at=tx.now))


def remove(tx: Transaction, sha256: Sha256) -> bool:
    """Note that a blob is to go; False, and nothing is changed, while a job needs it."""
    if sha256 in needed(tx.connection):
        return False
    forget(tx, [sha256])
    return True


def forget(tx: Transaction, gone: Collection[Sha256]) -> None:
    tx.connection.execute(delete(blobs).where(blobs.c.sha256.in_(gone)))


def needed(connection: Connection) -> set[Sha256]:
    """What jobs are made of and go on from: those of the manifest, and those that are not over."""
    counts = or_(jobs.c.in_manifest, jobs.c.status.not_in(OVER))
    found: set[Sha256] = set()
    for reference in REFERENCES:
        statement = select(reference).where(counts, reference.is_not(None)).distinct()
        found.update(connection.scalars(statement))
    return found


def stored(connection: Connection) -> dict[Sha256, tuple[int, datetime]]:
    """Every blob's bytes, and since when it is there."""
    statement = select(blobs.c.sha256, blobs.c.size_bytes, blobs.c.stored_at)
    return {sha256: (size, stored_at) for sha256, size, stored_at in connection.execute(statement)}


def checkpoints(connection: Connection) -> dict[JobId, Sha256]:
    """What jobs go on from."""
    statement = select(jobs.c.job_id, jobs.c.checkpoint).where(jobs.c.checkpoint.is_not(None))
    return {job: checkpoint for job, checkpoint in connection.execute(statement)}
