"""One reader of the events websocket."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy import select

from fleet_protocol.events import EventsFrame, LiveFrame, SnapshotFrame
from fleet_server.database import Database
from fleet_server.events.feed import Feed
from fleet_server.events.live import Live, LiveState, difference
from fleet_server.events.queries import events_after, is_known, last_event
from fleet_server.jobs.model import job_from
from fleet_server.jobs.service import Jobs, views
from fleet_server.manifest.service import Manifests
from fleet_server.tables import jobs
from fleet_server.workers.service import Workers

BATCH = 500
LIVE_SECONDS = 1.0


@dataclass(slots=True)
class Follower:
    """Reads the history from its cursor to the end, sends it, sleeps until there is more."""

    database: Database
    feed: Feed
    live: Live
    jobs: Jobs
    workers: Workers
    manifests: Manifests
    send: Callable[[str], Awaitable[None]]
    _told: LiveState = field(default_factory=LiveState)
    _live_at: float = 0.0

    async def run(self, after: int | None) -> None:
        cursor = after if after is not None and await self._knows(after) else await self._snapshot()
        self.feed.cursors[id(self)] = cursor
        try:
            while not self.feed.closing:
                self.feed.cursors[id(self)] = cursor = await self._catch_up(cursor)
                await self._tell_live()
                await self.feed.wait_beyond(cursor, LIVE_SECONDS)
        finally:
            self.feed.cursors.pop(id(self), None)

    async def _knows(self, cursor: int) -> bool:
        async with self.database.read() as connection:
            return await is_known(connection, cursor)

    async def _snapshot(self) -> int:
        async with self.database.read() as connection:
            cursor = await connection.run_sync(last_event)
            rows = (
                (await connection.execute(select(jobs).order_by(jobs.c.created_at, jobs.c.job_id)))
                .mappings()
                .all()
            )
            offers = await connection.run_sync(self.jobs.matching.offers)
        frame = SnapshotFrame.model_construct(
            cursor=cursor,
            fleet=self.manifests.fleet,
            server_time=self.live.now(),
            jobs=tuple(views((job_from(row) for row in rows), offers, self.workers.roster.paces)),
            workers=tuple(await self.workers.views()),
        )
        await self.send(frame.model_dump_json())
        return cursor

    async def _catch_up(self, cursor: int) -> int:
        while cursor < self.feed.last:
            async with self.database.read() as connection:
                found = await events_after(connection, cursor, BATCH)
            if not found:
                break
            cursor = found[-1].event
            await self.send(EventsFrame(cursor=cursor, events=found).model_dump_json())
        return cursor

    async def _tell_live(self) -> None:
        now = time.monotonic()
        if now - self._live_at < LIVE_SECONDS:
            return
        self._live_at = now
        state = await self.live.look(self.feed.last)
        frame: LiveFrame = difference(self._told, state, self.live.now())
        self._told = state
        await self.send(frame.model_dump_json())  # sent even when empty: it carries the server's time
