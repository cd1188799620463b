"""The coordinator's database in the simulation: the product's own transactions, in the loop, and a way to die."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_server.clock import Clock
from fleet_server.database import Database, writing_engine
from tests.inline import Act, InlineWriter, Reader
from tests.simulation.loop import VirtualLoop


class Moments:
    """A moment after the first asked everything queued is committed, and a moment after that it is told."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._told_at = 0.0

    def write(self, act: Act) -> None:
        self._loop.call_later(self._loop.moment(), act)

    def tell(self, act: Act) -> None:
        # in the order of the commits, as the thread's answers are
        self._told_at = max(self._told_at + 1e-6, self._loop.time() + self._loop.moment())
        self._loop.call_at(self._told_at, act)


class InlineDatabase(Database):
    def __init__(self, url: str, clock: Clock, loop: VirtualLoop) -> None:
        self._write_engine = writing_engine(url)
        self._read = create_engine(url)
        self._virtual = loop
        self.writer: InlineWriter = InlineWriter(self._write_engine, clock, loop, Moments(loop))
        driver = cast(sqlite3.Connection, self.writer.connection.connection.driver_connection)
        driver.execute("PRAGMA synchronous=OFF")  # the coordinator's machine never loses its power here

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """What is read is some moments old when it is used, as it is with a thread in between."""
        await asyncio.sleep(self._virtual.moment())
        with self._read.connect() as connection:
            yield cast(AsyncConnection, Reader(connection))
        await asyncio.sleep(self._virtual.moment())

    async def close(self) -> None:
        await self.writer.stop()
        self.dispose()

    def dispose(self) -> None:
        self.writer.die()
        self._read.dispose()
        self._write_engine.dispose()
