"""Reading the history."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_protocol.events import Event
from fleet_protocol.ids import JobId
from fleet_protocol.jobs import JobView, Moment
from fleet_protocol.workers import WorkerView
from fleet_server.tables import events


def last_event(connection: Connection) -> int:
    return connection.scalar(select(func.max(events.c.event))) or 0


async def is_known(connection: AsyncConnection, cursor: int) -> bool:
    """Whether `cursor` is of this history: its beginning, or an event that is in it."""
    if cursor == 0:
        return True
    return await connection.scalar(select(events.c.event).where(events.c.event == cursor)) is not None


async def events_after(connection: AsyncConnection, cursor: int, limit: int) -> tuple[Event, ...]:
    """The events after `cursor` in order, at most `limit`."""
    statement = select(events).where(events.c.event > cursor).order_by(events.c.event).limit(limit)
    return tuple(_event(row) for row in (await connection.execute(statement)).mappings().all())


async def events_before(
    connection: AsyncConnection, cursor: int, before: int, limit: int
) -> tuple[Event, ...]:
    """The last events after `cursor` and before `before`, in order, at most `limit`."""
    meant = (events.c.event > cursor, events.c.event < before)
    statement = select(events).where(*meant).order_by(events.c.event.desc()).limit(limit)
    return tuple(_event(row) for row in reversed((await connection.execute(statement)).mappings().all()))


async def failures_between(
    connection: AsyncConnection, cursor: int, last: int, limit: int
) -> tuple[Event, ...]:
    """The events after `cursor`, up to `last`, that tell of jobs that failed for good; in order, at most `limit`."""
    meant = (events.c.event > cursor, events.c.event <= last, events.c.kind == "failed")
    statement = select(events).where(*meant).order_by(events.c.event).limit(limit)
    return tuple(_event(row) for row in (await connection.execute(statement)).mappings().all())


def _event(row: RowMapping) -> Event:
    about_job, about_worker = row["job_id"] is not None, row["worker_id"] is not None
    return Event(
        event=row["event"],
        at=row["at"],
        kind=row["kind"],
        actor=row["actor"],
        detail=row["detail"],
        job=JobView.model_validate(row["row"]) if about_job else None,
        worker=WorkerView.model_validate(row["row"]) if about_worker and not about_job else None,
    )


async def moments(connection: AsyncConnection, job_id: JobId) -> tuple[Moment, ...]:
    """A job's history, oldest first, without the rows."""
    worker = events.c.row["worker"].as_string().label("worker")
    columns = (events.c.at, events.c.kind, events.c.actor, events.c.detail, worker)
    statement = select(*columns).where(events.c.job_id == job_id).order_by(events.c.event)
    return tuple(Moment(**row) for row in (await connection.execute(statement)).mappings().all())
