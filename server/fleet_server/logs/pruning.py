"""What `prune` may take of logs: the rest of those that expired."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from fleet_protocol.ids import AttemptId
from fleet_protocol.prune import Unused
from fleet_server.database import Database
from fleet_server.logs import queries
from fleet_server.logs.store import LogStore


@dataclass(frozen=True, slots=True)
class ExpiredLogs:
    database: Database
    store: LogStore

    async def unused(self, before: datetime) -> list[Unused]:
        async with self.database.read() as connection:
            expired = await queries.expired(connection, before)
        sizes = await asyncio.to_thread(lambda: {attempt: self.store.size(attempt) for attempt in expired})
        return [Unused(kind="log", id=attempt, size_bytes=size) for attempt, size in sizes.items() if size]

    async def forget(self, item: Unused) -> bool:
        await self.store.delete(AttemptId(item.id))
        return True
