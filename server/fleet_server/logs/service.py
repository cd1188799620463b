"""Logs of attempts: taking them in, and reading them as a viewer does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

from fleet_protocol.ids import AttemptId
from fleet_protocol.logs import MAX_CHUNK_BYTES, LogEnd
from fleet_server.clock import Clock
from fleet_server.database import Database
from fleet_server.errors import UnknownAttempt, WrongState
from fleet_server.jobs.model import Attempt
from fleet_server.jobs.queries import find_attempt, find_job
from fleet_server.logs.store import LogStore

LATE_BYTES = timedelta(seconds=30)
"""How long a viewer waits for bytes that the agent announced and has not sent when the attempt is over."""
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Where:
    """The part of a log that a reader asks for: from an offset, or the last lines."""

    offset: int | None = None
    tail: int | None = None


@dataclass(slots=True)
class Logs:
    database: Database
    clock: Clock
    store: LogStore
    _known: set[AttemptId] = field(default_factory=set)

    async def append(self, attempt: AttemptId, offset: int, data: bytes) -> int:
        await self.require(attempt)
        return await self.store.append(attempt, offset, data)

    async def append_hole(self, attempt: AttemptId, offset: int, length: int) -> int:
        await self.require(attempt)
        return await self.store.append_hole(attempt, offset, length)

    async def durable(self, attempt: AttemptId) -> int:
        await self.require(attempt)
        return self.store.durable(attempt)

    async def require(self, attempt: AttemptId) -> None:
        """UnknownAttempt unless there is such an attempt; a stale one may still bring its bytes, as evidence."""
        if attempt not in self._known:
            await self.attempt(attempt)
            self._known.add(attempt)

    async def attempt(self, attempt: AttemptId) -> Attempt:
        async with self.database.read() as connection:
            found = await find_attempt(connection, attempt)
        if found is None:
            raise UnknownAttempt(f"There is no attempt {attempt}.")
        return found

    async def of_job(self, reference: str, attempt: AttemptId | None) -> Attempt:
        """The attempt whose log is meant: the one named, else the job's current or last one."""
        async with self.database.read() as connection:
            job = await find_job(connection, reference)
            wanted = attempt or job.attempt
            found = await find_attempt(connection, wanted) if wanted else None
        if found is None:
            raise WrongState(
                f"Job {job.job_id} is {job.status} and was never tried, so it has no log.",
                next_command=f"fleet explain {job.job_id}",
            )
        if found.job_id != job.job_id:
            raise UnknownAttempt(f"Job {job.job_id} has no attempt {attempt}.")
        return found

    async def start_offset(self, attempt: AttemptId, where: Where) -> int:
        if where.tail is not None:
            return await self.store.tail_offset(attempt, where.tail)
        return where.offset or 0

    async def follow(self, attempt: AttemptId, offset: int) -> AsyncIterator[bytes | LogEnd]:
        """History, then live, in one loop over the durable file; ends when the attempt is over and all is sent."""
        while True:
            data = await self.store.read(attempt, offset, MAX_CHUNK_BYTES)
            if data:
                offset += len(data)
                yield data
            elif not await self.store.wait_beyond(attempt, offset, LOOK_SECONDS):
                found = await self.attempt(attempt)
                if self._is_over(found, offset):
                    length = self.store.durable(
                        attempt
                    )  # less than the offset where a reader began beyond the end
                    yield LogEnd(attempt=attempt, length=length, status=found.status)
                    return

    def is_open(self, attempt: Attempt) -> bool:
        """More bytes may come."""
        return not self._is_over(attempt, self.store.durable(attempt.attempt))

    def _is_over(self, attempt: Attempt, offset: int) -> bool:
        if attempt.status.is_open or self.store.durable(attempt.attempt) > offset:
            return False
        missing = attempt.log_bytes is not None and attempt.log_bytes > offset
        late = attempt.ended_at is None or self.clock.now() - attempt.ended_at > LATE_BYTES
        return not missing or late
