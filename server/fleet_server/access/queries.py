"""Reading and writing credentials and join tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import Connection, Table, insert, select, update

from fleet_protocol.ids import WorkerId
from fleet_server.database import EventRow, Transaction
from fleet_server.tables import credentials, join_tokens


@dataclass(frozen=True, slots=True)
class Held:
    """One row of `credentials`: whose a bearer is, and how long it is good for."""

    id: str
    kind: str
    secret_sha256: str = field(repr=False)
    name: str
    worker_id: WorkerId | None
    replaces: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Join:
    """One row of `join_tokens`."""

    id: str
    secret_sha256: str = field(repr=False)
    names: str | None
    uses_left: int
    used_by: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None


def all_held(connection: Connection) -> list[Held]:
    return [Held(**row) for row in connection.execute(select(credentials)).mappings().all()]


def all_joins(connection: Connection) -> list[Join]:
    ordered = select(join_tokens).order_by(join_tokens.c.created_at.desc())
    return [Join(**row) for row in connection.execute(ordered).mappings().all()]


def join_of(connection: Connection, join_id: str) -> Join | None:
    row = connection.execute(select(join_tokens).where(join_tokens.c.id == join_id)).mappings().first()
    return Join(**row) if row else None


def held_of(connection: Connection, credential_id: str) -> Held | None:
    row = connection.execute(select(credentials).where(credentials.c.id == credential_id)).mappings().first()
    return Held(**row) if row else None


def add(tx: Transaction, row: Held | Join) -> None:
    table = credentials if isinstance(row, Held) else join_tokens
    values = {one.name: getattr(row, one.name) for one in fields(row)}
    tx.connection.execute(insert(table), values)


def use(tx: Transaction, join: Join, name: str) -> None:
    """Once more, by the worker of that name."""
    values = {"uses_left": join.uses_left - 1, "used_by": [*join.used_by, name]}
    tx.connection.execute(update(join_tokens).where(join_tokens.c.id == join.id).values(values))


def revoke(tx: Transaction, table: Table, row_id: str) -> None:
    still = (table.c.id == row_id, table.c.revoked_at.is_(None))
    tx.connection.execute(update(table).where(*still).values(revoked_at=tx.now))


def of_worker(connection: Connection, worker: WorkerId) -> list[Held]:
    """Those of a worker that were not revoked."""
    still = (credentials.c.worker_id == worker, credentials.c.revoked_at.is_(None))
    return [Held(**row) for row in connection.execute(select(credentials).where(*still)).mappings().all()]


def note(tx: Transaction, kind: str, actor: str, detail: str) -> None:
    """An event about no job and no worker's row."""
    tx.events.append(EventRow(tx.next_event(), tx.now, kind, actor, row={}, detail=detail))
