"""Logs of attempts: taking them in, and reading them as a viewer does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from fleet_protocol.ids import AttemptId
from fleet_protocol.logs import LogEnd, LogHole, LogTime
from fleet_protocol.states import LogState
from fleet_server.clock import Clock
from fleet_server.database import Database, EventRow
from fleet_server.errors import LogClosed, UnknownAttempt, WrongState
from fleet_server.jobs.model import Attempt
from fleet_server.jobs.queries import find_attempt, find_job
from fleet_server.logs.sidecar import Hole, Kind
from fleet_server.logs.store import LogStore

LATE_BYTES = timedelta(seconds=30)
"""How long a viewer waits for bytes that the agent announced and has not sent when the attempt is over."""
LOOK_SECONDS = 10
"""How long a viewer sleeps at most; whatever happens to its attempt wakes it."""
VIEW_BYTES = 64 * 1024
"""A viewer's message: what one that reads nothing keeps in memory is no more than a few of these."""


@dataclass(frozen=True, slots=True)
class Where:
    """The part of a log that a reader asks for: from an offset, the last lines, or what came since a time."""

    offset: int | None = None
    tail: int | None = None
    since: datetime | timedelta | None = None
    """A time, or how long ago."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a log, and what a reader has to know with it."""

    attempt: AttemptId
    offset: int
    data: bytes
    length: int
    is_open: bool
    state: LogState
    holes: tuple[Hole, ...]
    """Those that touch the piece, whole."""


@dataclass(slots=True)
class Logs:
    database: Database
    clock: Clock
    store: LogStore
    on_bytes: Callable[[int], None] = lambda count: None
    """Told how many bytes came."""
    _open: set[AttemptId] = field(default_factory=set)
    """Attempts that are known and whose logs are not closed."""
    _news: dict[AttemptId, int] = field(default_factory=dict)
    """The last event about each attempt, until its log is closed."""

    # Taking in

    async def append(self, attempt: AttemptId, offset: int, data: bytes) -> int:
        await self._require(attempt, offset + len(data))
        durable = await self.store.append(attempt, offset, data)
        self.on_bytes(len(data))
        return durable

    async def append_hole(self, attempt: AttemptId, offset: int, length: int) -> int:
        await self._require(attempt, offset + length)
        return await self.store.append_hole(attempt, offset, length)

    async def durable(self, attempt: AttemptId) -> int:
        await self._require(attempt)
        return await self.store.durable(attempt)

    async def _require(self, attempt: AttemptId, end: int = 0) -> None:
        """UnknownAttempt unless there is such an attempt; a stale one may still bring its bytes, as evidence.

        LogClosed when its log is closed and has less than `end` bytes.
        """
        if attempt in self._open:
            return
        found = await self.attempt(attempt)
        if found.log_state is None:
            self._open.add(attempt)
        elif end > (durable := await self.store.durable(attempt)):
            raise LogClosed(current={"durable": durable})

    async def close(self, attempt: AttemptId) -> None:
        self._open.discard(attempt)
        self._news.pop(attempt, None)
        await self.store.close(attempt)

    # Reading

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
        if where.since is not None:
            since = self.clock.now() - where.since if isinstance(where.since, timedelta) else where.since
            return await self.store.since_offset(attempt, int(since.timestamp() * 1000))
        if where.tail is not None:
            return await self.store.tail_offset(attempt, where.tail)
        return where.offset or 0

    async def part(self, attempt: Attempt, where: Where, limit: int) -> Part:
        """At most `limit` bytes from where they are asked for."""
        name = attempt.attempt
        offset = await self.start_offset(name, where)
        data = bytearray()
        while len(data) < limit and (
            more := await self.store.read(name, offset + len(data), limit - len(data))
        ):
            data += more
        length = await self.store.durable(name)
        holes = [hole for hole in await self.store.holes(name) if hole.end > offset]
        return Part(
            attempt=name,
            offset=offset,
            data=bytes(data),
            length=length,
            is_open=not self._is_over(attempt, length, length),
            state=attempt.log_state or LogState.LIVE,
            holes=tuple(hole for hole in holes if hole.start < offset + max(len(data), 1)),
        )

    async def follow(
        self, attempt: AttemptId, offset: int, *, times: bool = False
    ) -> AsyncIterator[bytes | LogHole | LogTime | LogEnd]:
        """History, then live, in one loop over the durable file; ends when the attempt is over and all is sent.

        With `times` each piece is of one second, and a `LogTime` says of which where it is another one.
        """
        seen, found, told = 0, None, None
        while True:
            stirred = self.store.stirred(attempt)
            if offset < (length := await self.store.durable(attempt)):
                came = await self.store.second_at(attempt, offset) if times else None
                if came and came[0] != told:
                    told = came[0]
                    yield LogTime(at=datetime.fromtimestamp(told, UTC))
                piece = await self._piece(attempt, offset, came[1] if came else length)
                offset += piece.length if isinstance(piece, LogHole) else len(piece)
                yield piece
                continue
            if (news := self._news.get(attempt, 0)) != seen or found is None:
                seen, found = news, await self.attempt(attempt)
            if self._is_over(found, offset, length):
                yield LogEnd(attempt=attempt, length=length, status=found.status)
                return
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await stirred.wait()
            except TimeoutError:
                found = None

    async def _piece(self, attempt: AttemptId, offset: int, end: int) -> bytes | LogHole:
        """What is at `offset`, where there is something; bytes up to `end` at most."""
        hole = await self.store.hole(attempt, offset)
        if hole and hole.start <= offset:
            why: Literal["lost", "expired"] = "expired" if hole.kind is Kind.EXPIRED else "lost"
            return LogHole(offset=offset, length=hole.end - offset, why=why)
        end = min(end, hole.start) if hole else end
        return await self.store.read(attempt, offset, min(VIEW_BYTES, end - offset))

    def on_commit(self, events: Iterable[EventRow]) -> None:
        """Wake those who follow the log of an attempt of which there is news: it may be over."""
        for event in events:
            if attempt := event.row.get("attempt"):
                name = AttemptId(str(attempt))
                self._news[name] = event.event
                self.store.stir(name)

    def _is_over(self, attempt: Attempt, offset: int, length: int) -> bool:
        if attempt.status.is_open or length > offset:
            return False
        missing = attempt.log_bytes is not None and attempt.log_bytes > offset
        late = attempt.ended_at is None or self.clock.now() - attempt.ended_at > LATE_BYTES
        return not missing or late
