"""The coordinator's writer and reader without threads: its own transactions, in whoever's hands the time is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from fleet_server.clock import Clock
from fleet_server.database import EventRow, Transaction, Writer, _Task

T = TypeVar("T")
Act = Callable[[], None]


class Pace(Protocol):
    """When what is queued is written, and when whoever asked hears of it."""

    def write(self, act: Act) -> None: ...

    def tell(self, act: Act) -> None: ...


class AtOnce:
    """Each call is over when it returns."""

    def write(self, act: Act) -> None:
        act()

    def tell(self, act: Act) -> None:
        act()


class InlineWriter(Writer):
    """Takes everything queued when it is its time, commits it once, and answers."""

    def __init__(self, engine: Engine, clock: Clock, loop: asyncio.AbstractEventLoop, pace: Pace) -> None:
        super().__init__(engine, clock)
        self._loop: asyncio.AbstractEventLoop = loop
        self._pace = pace
        self._is_due = False
        self.connection = engine.connect()
        self.is_dead = False

    def start(self) -> None:
        """There is no thread to start."""

    async def stop(self) -> None:
        self.drain()
        self.die()

    def die(self) -> None:
        """What is not committed by now never will be, and nobody hears of what is."""
        if not self.is_dead:
            self.is_dead = True
            self.connection.close()

    async def run(self, operation: Callable[[Transaction], T]) -> T:
        future = self._ask(operation)
        if not self._is_due:
            self._is_due = True
            self._pace.write(self.drain)
        return future.result() if future.done() else await asyncio.shield(future)

    def together(self, operations: Sequence[Callable[[Transaction], T]]) -> list[asyncio.Future[T]]:
        """Several operations in one transaction; one that raises makes the writer run each alone."""
        futures = [self._ask(operation) for operation in operations]
        self.drain()
        return futures

    def drain(self) -> None:
        self._is_due = False
        while not self.is_dead and not self._queue.empty():
            batch, _ = self._take()
            self._write(self.connection, batch)

    def _ask(self, operation: Callable[[Transaction], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Task(operation, future))
        return future

    def _answer(self, answers: list[tuple[_Task, Any, Exception | None]], written: list[EventRow]) -> None:
        self._pace.tell(partial(self._tell, answers, written))

    def _tell(self, answers: list[tuple[_Task, Any, Exception | None]], written: list[EventRow]) -> None:
        if not self.is_dead:
            self._deliver(answers, written)


class Reader:
    """What the services use of an asynchronous connection, over a plain one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Any, values: Any = None) -> Any:
        return self._connection.execute(statement, values)

    async def scalar(self, statement: Any, values: Any = None) -> Any:
        return self._connection.scalar(statement, values)

    async def run_sync(self, read: Callable[[Connection], T]) -> T:
        return read(self._connection)
