"""The coordinator's database without threads: the product's own transactions, in the loop, and a way to die."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_server.clock import Clock
from fleet_server.database import Database, EventRow, Transaction, Writer, _Task, writing_engine
from tests.simulation.loop import VirtualLoop

T = TypeVar("T")


class InlineWriter(Writer):
    """Takes everything queued a moment after the first asked, commits once, and answers a moment after that."""

    def __init__(self, engine: Engine, clock: Clock, loop: VirtualLoop) -> None:
        super().__init__(engine, clock)
        self._virtual = loop
        self._is_due = False
        self._told_at = 0.0
        self._connection = engine.connect()
        driver = cast(sqlite3.Connection, self._connection.connection.driver_connection)
        driver.execute("PRAGMA synchronous=OFF")  # the coordinator's machine never loses its power here
        self.is_dead = False

    def start(self) -> None:
        self._loop = self._virtual

    async def run(self, operation: Callable[[Transaction], T]) -> T:
        if not self._is_due:
            self._is_due = True
            self._virtual.call_later(self._virtual.moment(), self._drain)
        return await super().run(operation)

    async def stop(self) -> None:
        self._drain()
        self.die()

    def die(self) -> None:
        """What is not committed by now never will be, and nobody hears of what is."""
        if not self.is_dead:
            self.is_dead = True
            self._connection.close()

    def _drain(self) -> None:
        self._is_due = False
        while not self.is_dead and not self._queue.empty():
            batch, _ = self._take()
            self._write(self._connection, batch)

    def _answer(self, answers: list[tuple[_Task, Any, Exception | None]], written: list[EventRow]) -> None:
        # in the order of the commits, as the thread's answers are
        self._told_at = max(self._told_at + 1e-6, self._virtual.time() + self._virtual.moment())
        self._virtual.call_at(self._told_at, self._tell, answers, written)

    def _tell(self, answers: list[tuple[_Task, Any, Exception | None]], written: list[EventRow]) -> None:
        if not self.is_dead:
            self._deliver(answers, written)


class _Reader:
    """What the services use of an asynchronous connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Any) -> Any:
        return self._connection.execute(statement)

    async def scalar(self, statement: Any) -> Any:
        return self._connection.scalar(statement)

    async def run_sync(self, read: Callable[[Connection], T]) -> T:
        return read(self._connection)


class InlineDatabase(Database):
    def __init__(self, url: str, clock: Clock, loop: VirtualLoop) -> None:
        self._write_engine = writing_engine(url)
        self._read = create_engine(url)
        self._virtual = loop
        self.writer: InlineWriter = InlineWriter(self._write_engine, clock, loop)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """What is read is some moments old when it is used, as it is with a thread in between."""
        await asyncio.sleep(self._virtual.moment())
        with self._read.connect() as connection:
            yield cast(AsyncConnection, _Reader(connection))
        await asyncio.sleep(self._virtual.moment())

    async def close(self) -> None:
        await self.writer.stop()
        self.dispose()

    def dispose(self) -> None:
        self.writer.die()
        self._read.dispose()
        self._write_engine.dispose()
