"""Logs and metrics of attempts that the database does not know: what a restored backup leaves behind."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from fleet_protocol.prune import Unused
from fleet_server.database import Database
from fleet_server.tables import attempts


@dataclass(frozen=True, slots=True)
class Strays:
    """Of one kind, in `folder`: all files of an attempt begin with its UUID and a dot."""

    kind: str
    folder: Path
    database: Database

    async def unused(self, before: datetime) -> list[Unused]:
        found = await asyncio.to_thread(self._found, before.timestamp())
        async with self.database.read() as connection:
            known = set(await connection.scalars(select(attempts.c.attempt)))
        return [
            Unused(kind=self.kind, id=attempt, size_bytes=size)
            for attempt, size in sorted(found.items())
            if attempt not in known
        ]

    def _found(self, before: float) -> dict[str, int]:
        """Bytes by attempt, without those that were written since."""
        sizes: defaultdict[str, int] = defaultdict(int)
        young = set()
        for path in self.folder.glob("??/*.*"):
            attempt, status = path.name.partition(".")[0], path.stat()
            sizes[attempt] += status.st_blocks * 512  # a hole takes no room
            if status.st_mtime >= before:
                young.add(attempt)
        return {attempt: size for attempt, size in sizes.items() if attempt not in young}

    async def forget(self, item: Unused) -> bool:
        """Nobody can come to know such an attempt: their UUIDs are never drawn twice."""
        await asyncio.to_thread(self._remove, item.id)
        return True

    def _remove(self, attempt: str) -> None:
        for path in self.folder.glob(f"{attempt[:2]}/{attempt}.*"):
            path.unlink(missing_ok=True)
