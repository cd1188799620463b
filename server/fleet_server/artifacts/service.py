"""Receiving an artifact from an attempt, and handing it out again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from fleet_protocol.ids import AttemptId, Sha256
from fleet_protocol.jobs import ArtifactPage
from fleet_protocol.wire import rfc3339
from fleet_protocol.workers import UploadAnswer
from fleet_server.artifacts import queries
from fleet_server.artifacts.store import ArtifactStore
from fleet_server.clock import Clock
from fleet_server.database import Database
from fleet_server.errors import TooLarge, UnknownArtifact, UnknownAttempt
from fleet_server.jobs.model import Attempt, Job
from fleet_server.jobs.queries import job_and_attempt_async


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes a request brings: from `offset`, of `total` in all."""

    offset: int
    total: int


@dataclass(slots=True)
class Artifacts:
    database: Database
    clock: Clock
    store: ArtifactStore
    max_bytes: int
    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def upload(
        self, attempt_id: AttemptId, sha256: Sha256, part: Part, chunks: AsyncIterator[bytes]
    ) -> UploadAnswer:
        """Take a part; verify and publish when it was the last. A stale attempt's artifact is kept as evidence."""
        if part.total > self.max_bytes:
            raise TooLarge(f"An artifact may have at most {self.max_bytes} bytes, this one has {part.total}.")
        job, attempt = await self._attempt(attempt_id)
        place = self.store.place(job.model, job.mode, sha256)
        async with self._locks[f"{attempt_id}-{sha256}"]:
            stored = not self.store.holds(place)
            if stored:
                length = await self.store.receive(attempt_id, sha256, part.offset, _bounded(chunks, part))
                if length < part.total:
                    return UploadAnswer(sha256=sha256, size_bytes=length, stored=False)
                await asyncio.to_thread(self.store.publish, attempt_id, sha256, place)
            await self._note(job, attempt, sha256, place)
        self._locks.pop(f"{attempt_id}-{sha256}", None)
        return UploadAnswer(sha256=sha256, size_bytes=part.total, stored=stored)

    async def _note(self, job: Job, attempt: Attempt, sha256: Sha256, place: str) -> None:
        size = self.store.full_path(place).stat().st_size
        if not await self.database.writer.run(
            lambda tx: queries.save_upload(tx, job, attempt, sha256, size, place)
        ):
            return
        line = {
            "sha256": sha256,
            "size_bytes": size,
            "path": place,
            "job_id": job.job_id,
            "job": job.name,
            "attempt": attempt.attempt,
            "worker": attempt.worker,
            "uploaded_at": rfc3339(self.clock.now()),
        }
        await asyncio.to_thread(self.store.note, line)

    async def state(self, attempt_id: AttemptId, sha256: Sha256) -> tuple[int, bool]:
        """How many bytes of an upload are here, and whether it is whole."""
        job, _ = await self._attempt(attempt_id)
        place = self.store.place(job.model, job.mode, sha256)
        if self.store.holds(place):
            return self.store.full_path(place).stat().st_size, True
        return self.store.received(attempt_id, sha256), False

    async def page(self) -> ArtifactPage:
        async with self.database.read() as connection:
            return ArtifactPage(models=tuple(await queries.list_uploads(connection)))

    async def path(self, sha256: Sha256) -> Path:
        async with self.database.read() as connection:
            place = await queries.artifact_path(connection, sha256)
        if place is None or not self.store.holds(place):
            raise UnknownArtifact(f"There is no artifact {sha256}.")
        return self.store.full_path(place)

    async def _attempt(self, attempt_id: AttemptId) -> tuple[Job, Attempt]:
        async with self.database.read() as connection:
            job, attempt = await job_and_attempt_async(connection, attempt_id)
        if job is None or attempt is None:
            raise UnknownAttempt(f"There is no attempt {attempt_id}.")
        return job, attempt


async def _bounded(chunks: AsyncIterator[bytes], part: Part) -> AsyncIterator[bytes]:
    """A client must not send more than it announced."""
    length = part.offset
    async for chunk in chunks:
        length += len(chunk)
        if length > part.total:
            raise TooLarge(f"More bytes came than the {part.total} that were announced.")
        yield chunk
