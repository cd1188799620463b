"""One thread writes; everybody else reads. This module holds the only commit of the coordinator.

A claim costs one durable commit. Many tasks committing on their own wait for each other and, on SQLite, fail
with "database is locked"; one thread that takes everything queued and commits it once does neither. If one
operation of a batch raises, the batch is rolled back and each operation is run again alone, so that nobody
pays for another's mistake.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from fleet_server.clock import Clock
from fleet_server.tables import events

if TYPE_CHECKING:
    from fleet_server.jobs.model import Job

T = TypeVar("T")
MAX_BATCH = 256
WAL_LIMIT_BYTES = 64 * 1024 * 1024
EVENT_COLUMNS = tuple(events.c.keys())
LAST_EVENT = select(func.max(events.c.event))


@dataclass(slots=True)
class EventRow:
    """An event about to be written, in the same transaction as the change it tells of."""

    event: int
    at: datetime
    kind: str
    actor: str
    row: dict[str, object]
    detail: str | None = None
    job_id: str | None = None
    worker_id: str | None = None
    job: Job | None = None
    """The row as a value, for those who are told of the commit."""

    def values(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in EVENT_COLUMNS}


@dataclass(slots=True)
class Transaction:
    """What an operation of the writer gets: the connection, the time, and the history to add to."""

    connection: Connection
    now: datetime
    last_event: int
    events: list[EventRow] = field(default_factory=list)

    def next_event(self) -> int:
        """The id for one more event. Only the one writer draws ids: in commit order, dense between two starts."""
        self.last_event += 1
        return self.last_event


class DatabaseLost(Exception):
    """The connection to the database is gone; this coordinator is no longer the active one."""


class _Task:
    __slots__ = ("future", "operation")

    def __init__(self, operation: Callable[[Transaction], Any], future: asyncio.Future[Any]) -> None:
        self.operation = operation
        self.future = future


class Writer:
    """The one thread that writes."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: list[Callable[[Sequence[EventRow]], None]] = []
        self._leapt_to = 0
        self.on_batch: Callable[[int], None] = lambda size: None
        """Called in the event loop with the number of operations that one commit made durable."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called in the event loop when the connection is gone, and with it the right to write."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def leap(self) -> None:
        """Draw ids from the clock's microseconds on, where those are ahead; before anything is written.

        Else, where an older database was put back, the ids of the history that was lost would be given to other events.
        """
        self._leapt_to = int(self._clock.now().timestamp() * 1_000_000)

    async def stop(self) -> None:
        """Finish what is queued, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def on_commit(self, listener: Callable[[Sequence[EventRow]], None]) -> None:
        """Call `listener` in the event loop with the events of each committed batch."""
        self._listeners.append(listener)

    async def run(self, operation: Callable[[Transaction], T]) -> T:
        """Run `operation` in the next transaction; returns once it is committed, raises what it raised.

        `operation` may run twice (again alone, when another of its batch raised), so it touches nothing but
        its transaction. A caller that is cancelled changes nothing: what was queued is still carried out.
        """
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Task(operation, future))
        return await asyncio.shield(future)

    def _run(self) -> None:
        with self._engine.connect() as connection:
            ending = False
            while not ending:
                batch, ending = self._take()
                if batch:
                    self._write(connection, batch)
                if connection.invalidated:
                    self._give_up()
                    return

    def _give_up(self) -> None:
        """A new connection would not hold the lock that makes this coordinator the active one: never write again."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.on_lost)
        while (task := self._queue.get()) is not None:
            self._answer([(task, None, DatabaseLost())], [])

    def _take(self) -> tuple[list[_Task], bool]:
        """Wait for one task, then take everything else that is queued."""
        batch: list[_Task] = []
        task = self._queue.get()
        while task is not None:
            batch.append(task)
            if len(batch) >= MAX_BATCH:
                return batch, False
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, connection: Connection, batch: list[_Task]) -> None:
        try:
            results, written = self._transact(connection, batch)
        except Exception as error:  # noqa: BLE001 - whatever an operation raised belongs to its caller
            if len(batch) == 1:
                self._answer([(batch[0], None, error)], [])
                return
            for task in batch:
                self._write(connection, [task])
        else:
            self._answer([(task, result, None) for task, result in zip(batch, results, strict=True)], written)

    def _transact(self, connection: Connection, batch: list[_Task]) -> tuple[list[Any], list[EventRow]]:
        with connection.begin():  # commits at the end, rolls back when anything raises
            last = max(connection.scalar(LAST_EVENT) or 0, self._leapt_to)
            transaction = Transaction(connection, self._clock.now(), last)
            results = [task.operation(transaction) for task in batch]
            if transaction.events:
                connection.execute(insert(events), [row.values() for row in transaction.events])
        return results, transaction.events

    def _answer(self, answers: list[tuple[_Task, Any, Exception | None]], written: list[EventRow]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._deliver, answers, written)

    def _deliver(self, answers: list[tuple[_Task, Any, Exception | None]], written: list[EventRow]) -> None:
        for task, result, error in answers:
            if task.future.done():
                continue
            if error is None:
                task.future.set_result(result)
            else:
                task.future.set_exception(error)
                task.future.exception()  # a caller that went away must not leave a warning behind
        if answers[0][2] is None:  # one that raised stands alone, and committed nothing
            self.on_batch(len(answers))
        if written:
            for listener in self._listeners:
                listener(written)


class Database:
    """The writer and the pool of readers of one coordinator."""

    def __init__(self, url: str, clock: Clock, write_engine: Engine | None = None) -> None:
        self._write_engine = write_engine or writing_engine(url)
        self._read_engine = reading_engine(url)
        self.writer = Writer(self._write_engine, clock)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection that cannot write. Never keep it over a wait for the network: it holds back the WAL."""
        async with self._read_engine.connect() as connection:
            yield connection

    async def close(self) -> None:
        await self.writer.stop()
        await self._read_engine.dispose()
        self._write_engine.dispose()


def writing_engine(url: str) -> Engine:
    """A synchronous engine with one connection, durable at each commit."""
    if not is_sqlite(url):
        return create_engine(url, poolclass=StaticPool)
    engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": 5})
    _configure_sqlite(engine, "BEGIN IMMEDIATE", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON")
    return engine


def reading_engine(url: str) -> AsyncEngine:
    """A pool of asynchronous connections that cannot write; each transaction sees one moment."""
    if not is_sqlite(url):
        read_only = {
            "options": "-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
        }
        return create_async_engine(url, pool_size=4, max_overflow=4, connect_args=read_only)
    engine = create_async_engine(
        make_url(url).set(drivername="sqlite+aiosqlite"), pool_size=4, max_overflow=4
    )
    _configure_sqlite(engine.sync_engine, "BEGIN", "PRAGMA query_only=ON")
    return engine


def is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def _configure_sqlite(engine: Engine, begin: str, *pragmas: str) -> None:
    """Take transactions out of the driver's hands, which opens none for a SELECT, and into ours."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # The order matters: query_only would refuse the change to WAL.
        for pragma in ("PRAGMA busy_timeout=5000", "PRAGMA journal_mode=WAL", *pragmas):
            cursor.execute(pragma)
        cursor.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
