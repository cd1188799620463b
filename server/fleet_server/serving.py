"""The coordinator's process once nothing speaks against its start: the active one's engine, and uvicorn."""

from __future__ import annotations

import contextlib
import socket
import time

import structlog
import uvicorn
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError

from fleet_protocol.version import program_version
from fleet_server.activity import is_active
from fleet_server.app import create_app
from fleet_server.clock import SteadyClock
from fleet_server.database import Database, is_sqlite, writing_engine
from fleet_server.schema import SchemaError, migrate, require_current
from fleet_server.serve import Fail, unusable
from fleet_server.services import Services
from fleet_server.settings import Settings

log = structlog.get_logger()
GRACE_SECONDS = 5
STANDBY_SECONDS = 0.5


class Server(uvicorn.Server):
    """uvicorn, which first lets go of everybody who waits on a long poll or a websocket."""

    lost_database = False

    @property
    def services(self) -> Services:
        services: Services = self.config.app.state.services  # type: ignore[union-attr]  # ours, made in run
        return services

    def leave(self) -> None:
        """The database is gone: end at once, so that a standby is not kept waiting."""
        self.lost_database = self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.services.begin_closing()
        await super().shutdown(sockets)


def become_active(settings: Settings, fail: Fail) -> Engine:
    """The engine of the active coordinator, its schema in order; waits for its turn where others stand before it.

    On SQLite the data folder is held already.
    """
    try:
        return _become_active(settings)
    except SchemaError as error:
        fail(str(error))
    except (ArgumentError, ImportError) as error:
        fail(f"--database-url cannot be used: {error}; PostgreSQL needs the extra `postgres`")
    except OSError as error:
        fail(unusable(settings, error))


def _become_active(settings: Settings) -> Engine:
    engine = writing_engine(settings.url)
    if is_sqlite(settings.url):
        migrate(settings.url)
        return engine
    require_current(settings.url)
    if not is_active(engine):
        print("fleet-server: standing by; another coordinator is active", flush=True)  # noqa: T201 - for scripts
        while not is_active(engine):
            time.sleep(STANDBY_SECONDS)
    return engine


def serve(settings: Settings, engine: Engine, listener: socket.socket, fail: Fail) -> None:
    port = listener.getsockname()[1]
    clock = SteadyClock()
    config = uvicorn.Config(
        create_app(settings, clock, Database(settings.url, clock, engine)),
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=1024 * 1024,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        lifespan="on",
    )
    server = Server(config)
    _when_started(server, f"fleet-server: listening on http://{settings.host}:{port}")
    log.info("starting", version=program_version(), data=str(settings.data), port=port)
    with contextlib.suppress(SystemExit):  # uvicorn's word for a start that failed; ours follows
        server.run(sockets=[listener])
    if not server.started:
        fail("could not start; the lines above say why")
    if server.lost_database:
        fail(
            "lost the database, and with it the right to write; a standby can take over, or start this one again"
        )


def _when_started(server: Server, announcement: str) -> None:
    startup = server.startup

    async def announced(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        if server.started:
            server.services.database.writer.on_lost = server.leave
            print(announcement, flush=True)  # noqa: T201 - what scripts wait for

    server.startup = announced  # type: ignore[method-assign]  # uvicorn has no other hook after start-up
