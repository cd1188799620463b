"""Running the coordinator: everything that can be refused is refused before the first request."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

import structlog
import uvicorn
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError

from fleet_protocol.local import LocalServer, is_loopback, write_note
from fleet_protocol.manifest import LOCAL_MANIFEST, ManifestError, find_manifest, load
from fleet_protocol.version import program_version
from fleet_server import journal
from fleet_server.access.tokens import open_tokens
from fleet_server.activity import FolderInUse, hold_folder, is_active
from fleet_server.app import create_app
from fleet_server.clock import SteadyClock
from fleet_server.database import Database, is_sqlite, writing_engine
from fleet_server.schema import SchemaError, migrate, require_current
from fleet_server.services import Services
from fleet_server.settings import Settings

log = structlog.get_logger()
Fail = Callable[[str], NoReturn]
GRACE_SECONDS = 5
STALLED_MS = 60_000
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


held: list[IO[str]] = []
"""Locks that last as long as the process."""


def run(settings: Settings, fail: Fail) -> None:
    """Serve until SIGTERM or Ctrl-C. `fail` ends the program with one sentence."""
    os.umask(0o077)
    journal.configure()
    settings = settings.model_copy(update={"manifest": _manifest(settings.manifest, fail)})
    _folder(settings.data, fail)
    try:
        open_tokens(settings.data / "tokens")
        engine = _become_active(settings)
    except (FolderInUse, SchemaError) as error:
        fail(str(error))
    except (ArgumentError, ImportError) as error:
        fail(f"--database-url cannot be used: {error}; PostgreSQL needs the extra `postgres`")
    except OSError as error:
        fail(
            f"cannot use {error.filename or settings.data}: {error.strerror}; give another folder with --data"
        )
    listener = _listen(settings, fail)
    port = listener.getsockname()[1]
    _note(LocalServer(port, settings.data))
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


def _note(server: LocalServer) -> None:
    """Without the note other programs of this account have to be told the token; that is no reason not to serve."""
    try:
        write_note(server)
    except OSError as error:
        log.warning("note_not_written", file=error.filename, why=error.strerror, instead="set FLEET_TOKEN")


def _become_active(settings: Settings) -> Engine:
    """The engine of the active coordinator, its schema in order; waits for its turn where others stand before it."""
    engine = writing_engine(settings.url)
    if is_sqlite(settings.url):
        held.append(hold_folder(settings.data))
        migrate(settings.url)
        return engine
    require_current(settings.url)
    if not is_active(engine):
        print("fleet-server: standing by; another coordinator is active", flush=True)  # noqa: T201 - for scripts
        while not is_active(engine):
            time.sleep(STANDBY_SECONDS)
    return engine


def _when_started(server: Server, announcement: str) -> None:
    startup = server.startup

    async def announced(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        if server.started:
            server.services.database.writer.on_lost = server.leave
            print(announcement, flush=True)  # noqa: T201 - what scripts wait for

    server.startup = announced  # type: ignore[method-assign]  # uvicorn has no other hook after start-up


def _manifest(given: Path | None, fail: Fail) -> Path | None:
    """The manifest to start with; a wrong one is refused with all its problems, a missing default is fine."""
    path = find_manifest(given)
    if given is None and not path.exists():
        return None
    try:
        load(path)
    except ManifestError as error:
        fail("the manifest has problems; nothing was started\n" + "\n".join(f"  {p}" for p in error.problems))
    return path.resolve() if path == LOCAL_MANIFEST else path


def _folder(data: Path, fail: Fail) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        fail(f"cannot use {data} as data folder: {error.strerror}; give another with --data")
    if os.name == "posix" and data.stat().st_mode & 0o077:
        fail(f"{data} can be read by other accounts; mend it with: chmod 700 {data}")


def _listen(settings: Settings, fail: Fail) -> socket.socket:
    if not is_loopback(settings.host):
        fail(f"{settings.host} is not a loopback address; only this machine's programs are served so far")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: else each answer takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited: a peer that takes nothing for so long is let go
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(
                f"port {settings.port} on {settings.host} is in use, perhaps by another fleet-server; "
                "stop it, or give another with --port (0 takes a free one)"
            )
        fail(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}")
    return listener
