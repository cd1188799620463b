"""What the database knows of logs: whose are to be closed, and whose may expire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_protocol.ids import AttemptId
from fleet_protocol.states import LogState
from fleet_server.database import Transaction
from fleet_server.jobs.queries import OPEN
from fleet_server.tables import attempts


class Ended(NamedTuple):
    """An attempt that is over and whose log is not closed."""

    attempt: AttemptId
    ended_at: datetime
    log_bytes: int | None
    """The log's full length, where the agent told it."""


async def ended(connection: AsyncConnection) -> list[Ended]:
    columns = [attempts.c[name] for name in Ended._fields]
    statement = select(*columns).where(
        attempts.c.log_state.is_(None), attempts.c.ended_at.is_not(None), attempts.c.status.not_in(OPEN)
    )
    return [Ended(*row) for row in await connection.execute(statement)]


async def closed(connection: AsyncConnection, before: datetime | None = None) -> list[AttemptId]:
    """Attempts with a closed log that has not expired, those that ended first coming first."""
    statement = select(attempts.c.attempt).where(
        attempts.c.log_state.in_([LogState.COMPLETE, LogState.PARTIAL])
    )
    if before is not None:
        statement = statement.where(attempts.c.ended_at < before)
    return list(await connection.scalars(statement.order_by(attempts.c.ended_at)))


async def expired(connection: AsyncConnection, before: datetime) -> list[AttemptId]:
    statement = select(attempts.c.attempt).where(
        attempts.c.log_state == LogState.EXPIRED, attempts.c.ended_at < before
    )
    return list(await connection.scalars(statement.order_by(attempts.c.ended_at)))


_KEEP_LENGTH = (
    update(attempts)
    .where(
        attempts.c.attempt == bindparam("_attempt"),
        attempts.c.log_bytes.is_(None),
        attempts.c.status.not_in(OPEN),
    )
    .values(log_bytes=bindparam("_length"))
)


def keep_length(tx: Transaction, attempt: AttemptId, length: int | None) -> None:
    """Note how long the log of an attempt that is over is said to be, where nobody said so before."""
    if length is not None:
        tx.connection.execute(_KEEP_LENGTH, {"_attempt": attempt, "_length": length})


_SET_STATE = (
    update(attempts).where(attempts.c.attempt == bindparam("_attempt")).values(log_state=bindparam("_state"))
)


def set_states(tx: Transaction, states: Mapping[AttemptId, LogState]) -> None:
    if states:
        rows = [{"_attempt": attempt, "_state": state} for attempt, state in states.items()]
        tx.connection.execute(_SET_STATE, rows)
