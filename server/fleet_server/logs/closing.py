"""Closes logs that get no more bytes, and lets the oldest go when there are too many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from errno import ENOSPC
from pathlib import Path

import structlog

from fleet_protocol.ids import AttemptId
from fleet_protocol.states import LogState
from fleet_server.clock import Clock
from fleet_server.database import Database
from fleet_server.logs import queries
from fleet_server.logs.closed import Interrupted
from fleet_server.logs.queries import Ended
from fleet_server.logs.service import Logs
from fleet_server.settings import Settings

log = structlog.get_logger()
GIVEN_UP_AFTER = timedelta(hours=24)
"""How long bytes of an attempt that is over are waited for, after it ended and after the last ones came."""
BATCH = 100


@dataclass(slots=True)
class Closing:
    database: Database
    clock: Clock
    settings: Settings
    logs: Logs
    _is_measured: bool = False

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.settings.log_sweep)
            try:
                await self.once()
            except Interrupted:
                return
            except OSError as error:  # most likely a full disk; what was not closed is at the next look
                log.warning("logs_not_closed", why=str(error))
            except Exception:  # the loop outlives what nobody thought of
                log.exception("logs_not_closed")

    async def once(self) -> None:
        async with self.database.read() as connection:
            found = await queries.ended(connection)
        for start in range(0, len(found), BATCH):
            await self._close(found[start : start + BATCH])
        await self._expire_by_age()
        if not self._is_measured:
            await self._expire_by_size()
            self._is_measured = True

    async def _close(self, ended: Sequence[Ended]) -> None:
        states: dict[AttemptId, LogState] = {}
        for one in ended:
            with self._others_go_on(one.attempt):
                if state := await self._state(one):
                    await self.logs.close(one.attempt)
                    states[one.attempt] = state
        if states:
            await self._note(states)
            self._is_measured = False  # only what is closed can be taken from

    @contextmanager
    def _others_go_on(self, attempt: AttemptId) -> Iterator[None]:
        """A log that cannot be read keeps no other from its turn; a full disk does."""
        try:
            yield
        except OSError as error:
            if error.errno == ENOSPC:
                raise
            log.error("log_not_closed", attempt=attempt, why=str(error))

    async def _state(self, ended: Ended) -> LogState | None:
        """What to call a log when it is closed now; None while more of it may come."""
        length = await self.logs.store.durable(ended.attempt)
        if ended.log_bytes is not None and length >= ended.log_bytes:
            return LogState.COMPLETE
        quiet_since = max(
            ended.ended_at.timestamp(), await self.logs.store.quiet_since_ms(ended.attempt) / 1000
        )
        is_quiet = self.clock.now().timestamp() - quiet_since > GIVEN_UP_AFTER.total_seconds()
        return LogState.PARTIAL if is_quiet else None

    async def _expire_by_age(self) -> None:
        """Only closed logs: an attempt that is under way has none."""
        if self.settings.log_days is None:
            return
        before = self.clock.now() - timedelta(days=self.settings.log_days)
        async with self.database.read() as connection:
            old = await queries.closed(connection, before)
        for attempt in old:
            await self._let_go(attempt)

    async def _expire_by_size(self) -> None:
        """The oldest first, until the rest is no more than what logs may take."""
        if self.settings.log_gib is None:
            return
        surplus = await asyncio.to_thread(size_of, self.logs.store.folder) - self.settings.log_gib * 1024**3
        if surplus > 0:
            async with self.database.read() as connection:
                oldest = await queries.closed(connection)
            for attempt in oldest:
                if surplus <= 0:
                    break
                surplus -= await self._let_go(attempt)

    async def _let_go(self, attempt: AttemptId) -> int:
        """Shorten one log; the bytes that the disk got back."""
        before = self.logs.store.size(attempt)
        with self._others_go_on(attempt):
            await self.logs.store.expire(attempt)
            await self._note({attempt: LogState.EXPIRED})
        return before - self.logs.store.size(attempt)

    async def _note(self, states: dict[AttemptId, LogState]) -> None:
        await self.database.writer.run(lambda tx: queries.set_states(tx, states))


def size_of(folder: Path) -> int:
    """Bytes that the files below `folder` take from the disk; holes take none."""
    return sum(path.stat().st_blocks * 512 for path in folder.glob("*/*.*"))
