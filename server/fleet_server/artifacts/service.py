"""Receiving an artifact from an attempt, and handing it out again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet_protocol.ids import AttemptId, Sha256
from fleet_protocol.jobs import ArtifactPage
from fleet_protocol.prune import Unused
from fleet_protocol.wire import rfc3339
from fleet_protocol.workers import UploadAnswer
from fleet_server.artifacts import queries
from fleet_server.artifacts.index import Index, place
from fleet_server.clock import Clock
from fleet_server.content import ContentStore, Part
from fleet_server.database import Database
from fleet_server.errors import UnknownArtifact, UnknownAttempt
from fleet_server.jobs.model import Attempt, Job
from fleet_server.jobs.queries import job_and_attempt_async


@dataclass(frozen=True, slots=True)
class Artifacts:
    database: Database
    clock: Clock
    store: ContentStore
    index: Index

    async def upload(
        self, attempt_id: AttemptId, sha256: Sha256, part: Part, chunks: AsyncIterator[bytes]
    ) -> UploadAnswer:
        """Take a part, and note the whole. A stale attempt's artifact is kept as evidence."""
        job, attempt, where = await self._find(attempt_id, sha256)
        async with self.store.lock(sha256):
            answer = await self.store.take(sha256, where, part, chunks)
            size = self.store.size(where)
            if size is not None:
                await self._note(job, attempt, (sha256, size, where))
        return answer

    async def _note(self, job: Job, attempt: Attempt, artifact: tuple[Sha256, int, str]) -> None:
        sha256, size, where = artifact
        if not await self.database.writer.run(
            lambda tx: queries.save_upload(tx, job, attempt, sha256, size, where)
        ):
            return
        line = {
            "sha256": sha256,
            "size_bytes": size,
            "path": where,
            "job_id": job.job_id,
            "job": job.name,
            "attempt": attempt.attempt,
            "worker": attempt.worker,
            "uploaded_at": rfc3339(self.clock.now()),
        }
        await self.index.note(line)

    async def state(self, attempt_id: AttemptId, sha256: Sha256) -> tuple[int, bool]:
        """How many bytes of an upload are here, and whether it is whole."""
        _, _, where = await self._find(attempt_id, sha256)
        size = self.store.size(where)
        return (self.store.received(sha256), False) if size is None else (size, True)

    async def page(self) -> ArtifactPage:
        async with self.database.read() as connection:
            return ArtifactPage(models=tuple(await queries.list_uploads(connection)))

    async def path(self, sha256: Sha256) -> Path:
        async with self.database.read() as connection:
            where = await queries.artifact_path(connection, sha256)
        if where is None or self.store.size(where) is None:
            raise UnknownArtifact(f"There is no artifact {sha256}.")
        return self.store.path(where)

    async def unused(self, before: datetime) -> list[Unused]:
        """Artifacts of attempts that had lost the job, and of jobs that were trained again since."""
        async with self.database.read() as connection:
            found = await connection.run_sync(queries.unreferred)
        return [
            Unused(kind="artifact", id=one.sha256, size_bytes=one.size_bytes)
            for one in found
            if one.stored_at < before
        ]

    async def forget(self, item: Unused) -> bool:
        sha256 = Sha256(item.id)
        async with self.store.lock(sha256):
            where = await self.database.writer.run(lambda tx: queries.remove(tx, sha256))
            if where is not None:
                await asyncio.to_thread(self.store.remove, sha256, where)
        return where is not None

    async def _find(self, attempt_id: AttemptId, sha256: Sha256) -> tuple[Job, Attempt, str]:
        """The attempt with its job, and where these bytes are, or are to be, kept: once, whoever brings them."""
        async with self.database.read() as connection:
            job, attempt = await job_and_attempt_async(connection, attempt_id)
            where = await queries.artifact_path(connection, sha256)
        if job is None or attempt is None:
            raise UnknownAttempt(f"There is no attempt {attempt_id}.")
        return job, attempt, where or place(job.model, job.mode, sha256)
