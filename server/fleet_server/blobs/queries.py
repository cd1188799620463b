"""Which blobs there are: a row says that the bytes are stored, for those who decide within a transaction."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, insert, select

from fleet_protocol.ids import Sha256
from fleet_server.database import Transaction
from fleet_server.tables import blobs


def known(connection: Connection, wanted: Collection[Sha256]) -> set[Sha256]:
    """Those of `wanted` that are stored."""
    return set(connection.scalars(select(blobs.c.sha256).where(blobs.c.sha256.in_(wanted))))


def save(tx: Transaction, sha256: Sha256, size_bytes: int) -> None:
    """Note a blob whose bytes are stored; a second time changes nothing."""
    if not known(tx.connection, [sha256]):
        tx.connection.execute(insert(blobs).values(sha256=sha256, size_bytes=size_bytes, stored_at=tx.now))
