"""Running the coordinator: everything that can be refused is refused before the first request."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import structlog
import uvicorn

from fleet_protocol.local import LocalServer, is_loopback, write_note
from fleet_protocol.manifest import LOCAL_MANIFEST, ManifestError, find_manifest, load
from fleet_protocol.version import program_version
from fleet_server import journal
from fleet_server.app import create_app
from fleet_server.lock import FolderInUse, hold
from fleet_server.schema import SchemaError, migrate
from fleet_server.settings import Settings

log = structlog.get_logger()
Fail = Callable[[str], NoReturn]
GRACE_SECONDS = 5


class Server(uvicorn.Server):
    """uvicorn, which first lets go of everybody who waits on a long poll or a websocket."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.services.begin_closing()  # type: ignore[union-attr]  # ours, made below
        await super().shutdown(sockets)


def run(settings: Settings, fail: Fail) -> None:
    """Serve until SIGTERM or Ctrl-C. `fail` ends the program with one sentence."""
    os.umask(0o077)
    journal.configure()
    settings = settings.model_copy(update={"manifest": _manifest(settings.manifest, fail)})
    _folder(settings.data, fail)
    try:
        lock = hold(settings.data)
        migrate(settings.url)
    except (FolderInUse, SchemaError) as error:
        fail(str(error))
    listener = _listen(settings, fail)
    port = listener.getsockname()[1]
    write_note(LocalServer(port, settings.data))
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=1024 * 1024,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        lifespan="on",
    )
    server = Server(config)
    announce = f"fleet-server: listening on http://{settings.host}:{port}"
    _when_started(server, lambda: print(announce, flush=True))  # noqa: T201 - what scripts wait for
    log.info("starting", version=program_version(), data=str(settings.data), port=port)
    server.run(sockets=[listener])
    lock.close()
    if not server.started:
        fail("could not start; the lines above say why")


def _when_started(server: uvicorn.Server, then: Callable[[], None]) -> None:
    startup = server.startup

    async def announced(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        if server.started:
            then()

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
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
