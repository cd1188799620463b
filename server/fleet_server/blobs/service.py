"""Data sets, sources and checkpoints: taken in, handed out, and what a job goes on from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from fleet_protocol.archive import content_size, stream_content
from fleet_protocol.ids import Sha256
from fleet_protocol.prune import Unused
from fleet_protocol.workers import UploadAnswer
from fleet_server.blobs import queries
from fleet_server.content import ContentStore, Part
from fleet_server.database import Database
from fleet_server.errors import UnknownBlob


def place(sha256: Sha256) -> str:
    """Where a blob is kept, relative to the data folder."""
    return f"blobs/{sha256[:2]}/{sha256}"


@dataclass(frozen=True, slots=True)
class Blobs:
    database: Database
    store: ContentStore

    async def take_stock(self) -> None:
        """Forget blobs whose bytes are gone: a database from a backup knows some that were deleted since."""
        async with self.database.read() as connection:
            rows = await connection.run_sync(queries.stored)
        gone = [sha256 for sha256 in rows if self.store.size(place(sha256)) is None]
        if gone:
            await self.database.writer.run(lambda tx: queries.forget(tx, gone))

    async def upload(self, sha256: Sha256, part: Part, chunks: AsyncIterator[bytes]) -> UploadAnswer:
        """Take a part, and note the whole."""
        async with self.store.lock(sha256):
            answer = await self.store.take(sha256, place(sha256), part, chunks)
            size = self.store.size(place(sha256))
            if size is not None:
                await self.database.writer.run(lambda tx: queries.save(tx, sha256, size))
        return answer

    async def add(self, sha256: Sha256, path: Path) -> None:
        """Store a file or a folder of this machine. OSError, NotArchived; DigestMismatch where it changed."""
        size = await asyncio.to_thread(content_size, path)
        await self.upload(sha256, Part(0, size, size), stream_content(path))

    async def state(self, sha256: Sha256) -> tuple[int, bool]:
        """How many bytes are here, and whether they are the whole blob."""
        size = await self._size(sha256)
        return (self.store.received(sha256), False) if size is None else (size, True)

    async def path(self, sha256: Sha256) -> Path:
        if await self._size(sha256) is None:
            raise UnknownBlob(f"There is no blob {sha256}.")
        return self.store.path(place(sha256))

    async def _size(self, sha256: Sha256) -> int | None:
        async with self.database.read() as connection:
            is_known = await connection.run_sync(lambda sync: queries.known(sync, [sha256]))
        return self.store.size(place(sha256)) if is_known else None

    def missing(self, connection: Connection, wanted: Set[Sha256]) -> set[Sha256]:
        """Those of `wanted` that nobody could fetch from here."""
        known = queries.known(connection, wanted)
        return {sha256 for sha256 in wanted if sha256 not in known or self.store.size(place(sha256)) is None}

    async def remove(self, sha256: Sha256) -> bool:
        """Delete a blob, unless a job needs it."""
        async with self.store.lock(sha256):
            is_free = await self.database.writer.run(lambda tx: queries.remove(tx, sha256))
            if is_free:
                await asyncio.to_thread(self.store.remove, sha256, place(sha256))
        return is_free

    async def unused(self, before: datetime) -> list[Unused]:
        """Blobs that no job needs, also those of which a crash left the bytes alone."""
        async with self.database.read() as connection:
            rows = await connection.run_sync(queries.stored)
            needed = await connection.run_sync(queries.needed)
        on_disk = await asyncio.to_thread(self.store.untouched, "blobs/*/*", before)
        orphans = {sha256: size for sha256, size in on_disk.items() if sha256 not in rows}
        old = {sha256: size for sha256, (size, stored_at) in rows.items() if stored_at < before}
        return [
            Unused(kind="blob", id=sha256, size_bytes=size)
            for sha256, size in (old | orphans).items()
            if sha256 not in needed
        ]

    async def forget(self, item: Unused) -> bool:
        return await self.remove(Sha256(item.id))
