"""The coordinator's own services without a thread, a socket or a pause: each call is over when it returns.

Nothing of the repository is replaced. The writer carries out its transactions where it is asked to, reads use the
same connection, and a coroutine that never waits is run by being sent once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_protocol.ids import AttemptId
from fleet_protocol.plan import ReloadRequest
from fleet_server.blobs.service import Blobs
from fleet_server.content import ContentStore
from fleet_server.database import Database, writing_engine
from fleet_server.jobs.queries import open_attempts
from fleet_server.jobs.service import Jobs
from fleet_server.jobs.sweep import Sweep
from fleet_server.logs.store import LogStore
from fleet_server.manifest.service import Manifests, Source
from fleet_server.matching.loop import MatchingLoop
from fleet_server.settings import Settings
from fleet_server.tables import metadata
from fleet_server.workers.flush import Flush
from fleet_server.workers.leases import Leases
from fleet_server.workers.queries import all_workers
from fleet_server.workers.roster import Roster
from fleet_server.workers.service import Workers
from tests.inline import AtOnce, InlineWriter, Reader
from tests.server.coordinator import FakeClock

T = TypeVar("T")
Backup = bytes | dict[Table, list[dict[str, Any]]]
LEASE, START, HEARTBEAT, SWEEP, LIVE = 100, 40, 30, 5, 60
"""Seconds; shorter than in real life, in the same order."""
MAX_LOST, BACKOFF, BACKOFF_CAP = 3, 30, 60


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("it waits for something")


class InlineDatabase(Database):
    def __init__(self, engine: Engine, clock: FakeClock, loop: asyncio.AbstractEventLoop) -> None:
        self.writer: InlineWriter = InlineWriter(engine, clock, loop, AtOnce())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        with self.writer.connection.begin():
            yield cast(AsyncConnection, Reader(self.writer.connection))


SOURCES: dict[str, Source] = {}


class RememberingManifests(Manifests):
    """Reading the same texts a hundred thousand times would measure the TOML parser; and there are no threads here."""

    async def _source(self, request: ReloadRequest) -> Source:
        text = request.toml or ""
        if text not in SOURCES:
            SOURCES[text] = self._read(request)
        return SOURCES[text]


class Stage:
    """One coordinator's parts over one database; `restart` makes the parts anew, as a new process would."""

    def __init__(self, url: str, folder: Path, model: Path | None = None) -> None:
        """`model`: a migrated SQLite file to copy into the database, for one in memory."""
        self.clock = FakeClock()
        self.loop = asyncio.new_event_loop()
        self.engine = writing_engine(url)
        self.database = InlineDatabase(self.engine, self.clock, self.loop)
        if model is not None:
            with closing(sqlite3.connect(model)) as source:
                source.backup(self._sqlite())
        self.stopped: list[str] = []
        self.settings = Settings(
            data=folder,
            stale_after=LEASE,
            start_deadline=START,
            heartbeat=HEARTBEAT,
            sweep=SWEEP,
            live_after=LIVE,
            max_lost=MAX_LOST,
            backoff=BACKOFF,
            backoff_cap=BACKOFF_CAP,
        )
        self.restart()

    @property
    def connection(self) -> Connection:
        return self.database.writer.connection

    def _sqlite(self) -> sqlite3.Connection:
        return cast(sqlite3.Connection, self.connection.connection.driver_connection)

    def restart(self) -> None:
        """A new process over the same database: whatever was only in memory is gone."""
        writer = self.database.writer
        writer._listeners.clear()
        with self.connection.begin():
            roster = Roster({worker.worker_id: worker for worker in all_workers(self.connection)})
            roster.leases = Leases(job for job, _ in open_attempts(self.connection))
        writer.on_commit(roster.leases.on_commit)
        self.roster = roster
        self.matching = MatchingLoop(writer, self.clock, roster, timedelta(seconds=LEASE))
        self.workers = Workers(self.database, self.clock, self.settings, roster, self.matching)
        self.jobs = Jobs(
            self.database, self.matching, roster, lambda worker, attempt, why: self.stopped.append(attempt)
        )
        blobs = Blobs(self.database, ContentStore(self.settings.data, max_bytes=1))
        self.manifests = RememberingManifests(self.database, roster, self.matching, blobs, None)
        self.sweep = Sweep(self.database, self.clock, self.settings, roster, self.workers.policy)
        self.flush = Flush(self.database, self.settings, roster)
        drive(self.manifests.load_current())
        self.logs = LogStore(self.settings.data / "logs", self.clock)

    def appended(self, attempt: AttemptId, offset: int, data: bytes) -> int:
        """The one append rule; its file work is in a thread, so this one thing has to wait."""
        return self.loop.run_until_complete(self.logs.append(attempt, offset, data))

    @property
    def changes(self) -> int:
        """Rows that were written since the connection was made; on SQLite only."""
        return self._sqlite().total_changes

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """What the driver itself reads: half of a history's work is looking at what it did."""
        if self.engine.dialect.name == "sqlite":
            return self._sqlite().execute(query).fetchall()
        with self.connection.begin():
            return [tuple(row) for row in self.connection.exec_driver_sql(query)]

    @staticmethod
    def time(raw: str | datetime | None) -> datetime | None:
        """A time as `fetch` reads it."""
        return datetime.fromisoformat(raw).replace(tzinfo=UTC) if isinstance(raw, str) else raw

    def backup(self) -> Backup:
        if self.engine.dialect.name == "sqlite":
            image = bytearray(self._sqlite().serialize())
            image[18:20] = b"\1\1"  # the copied file was in WAL mode, which memory cannot be
            return bytes(image)
        with self.connection.begin():
            found = {table: self.connection.execute(select(table)) for table in metadata.sorted_tables}
            return {table: [dict(row) for row in rows.mappings()] for table, rows in found.items()}

    def restore(self, backup: Backup) -> None:
        """Put a backup in the place of everything that is there, as an operator would, and start again."""
        if isinstance(backup, bytes):
            self._sqlite().deserialize(backup)
        else:
            with self.connection.begin():
                for table in reversed(metadata.sorted_tables):
                    self.connection.execute(table.delete())
                for table, rows in backup.items():
                    if rows:
                        self.connection.execute(insert(table), rows)
        self.restart()

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.connection.close()
        self.engine.dispose()
