"""The limit that claims are held against: the database alone, given the statements that the coordinator gives it.

The coordinator's own code claims without HTTP while its writing connection is recorded; then the recording is
played to a second database with the same jobs in it, through the driver alone: the same SQL with the same values
in the same transactions, as durable, and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, event

from bench.rig.caller import OFFER
from fleet_protocol.ids import WorkerId
from fleet_protocol.version import PROTOCOL
from fleet_protocol.workers import HelloRequest
from fleet_server.app import create_app
from fleet_server.database import Database, writing_engine
from fleet_server.schema import migrate
from fleet_server.services import Services
from fleet_server.settings import Settings

QUIET = 86_400.0  # the loops beside the claims shall not come into the recording


@dataclass(slots=True)
class Still:
    """The same time in both databases."""

    moment: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.moment


@dataclass(frozen=True, slots=True)
class Statement:
    sql: str
    values: Any
    many: bool


Transaction = list[Statement]


def claims_per_second(recorded: Settings, played: Settings, claims: int, batch: int) -> float:
    """How fast two like databases take `claims` claims, `batch` to a commit; both are empty, or not there yet."""
    for settings in (recorded, played):
        settings.data.mkdir(mode=0o700)
        migrate(settings.url)
    asyncio.run(_claimed(played, writing_engine(played.url), [], 0, 0))  # only takes up the manifest
    engine = writing_engine(recorded.url)
    return claims / _play(writing_engine(played.url), asyncio.run(_tape(recorded, engine, claims, batch)))


async def _tape(settings: Settings, engine: Engine, claims: int, batch: int) -> list[Transaction]:
    tape: list[Transaction] = [[]]

    def note(_: Any, __: Any, sql: str, values: Any, ___: Any, many: bool) -> None:
        tape[-1].append(Statement(sql, values, many))

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "commit", lambda _: tape.append([]))
    await _claimed(settings, engine, tape, claims, batch)
    return [transaction for transaction in tape if transaction]


async def _claimed(
    settings: Settings, engine: Engine, tape: list[Transaction], claims: int, batch: int
) -> None:
    """`batch` workers claim together until all is claimed; the tape begins with the first claim."""
    clock = Still()
    app = create_app(settings, clock, Database(settings.url, clock, engine))
    async with app.router.lifespan_context(app), asyncio.TaskGroup() as group:
        services: Services = app.state.services
        workers = [await _worker(services, number) for number in range(batch)]
        tape[:] = [[]]
        rest = iter(range(claims))
        for worker in workers:
            group.create_task(_claim(services, worker, rest))


async def _worker(services: Services, number: int) -> WorkerId:
    request = HelloRequest(
        worker=WorkerId(str(uuid4())),
        name=f"bare-{number}",
        protocol=PROTOCOL,
        version="0",
        incarnation=str(uuid4()),
        capability=OFFER,
    )
    await services.workers.hello(request)
    return request.worker


async def _claim(services: Services, worker: WorkerId, rest: Any) -> None:
    for _ in rest:
        answer = await services.matching.claim(worker, str(uuid4()), 0)
        assert answer is not None


def _play(engine: Engine, tape: list[Transaction]) -> float:
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        began = time.perf_counter()
        for transaction in tape:
            for statement in transaction:
                play = cursor.executemany if statement.many else cursor.execute
                play(statement.sql, statement.values)
                if cursor.description is not None:
                    cursor.fetchall()
            connection.commit()
        took = time.perf_counter() - began
    engine.dispose()
    return took


def settings(folder: Path, manifest: Path | None, url: str | None) -> Settings:
    return Settings(data=folder, manifest=manifest, database_url=url, sweep=QUIET, flush=QUIET)
