"""Running the coordinator: everything that can be refused is refused before the first request.

What is refused most often needs nothing that takes long to import: the coordinator itself is imported after it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

import structlog

from fleet_protocol.local import LocalServer, is_loopback, write_note
from fleet_protocol.manifest import LOCAL_MANIFEST, ManifestError, find_manifest, load
from fleet_server import journal
from fleet_server.access.tokens import open_tokens
from fleet_server.activity import FolderInUse, hold_folder
from fleet_server.settings import Settings

log = structlog.get_logger()
Fail = Callable[[str], NoReturn]
STALLED_MS = 60_000


held: list[IO[str]] = []
"""Locks that last as long as the process."""


def run(settings: Settings, fail: Fail) -> None:
    """Serve until SIGTERM or Ctrl-C. `fail` ends the program with one sentence."""
    os.umask(0o077)
    journal.configure()
    settings = settings.model_copy(update={"manifest": _manifest(settings.manifest, fail)})
    _folder(settings.data, fail)
    listener = None
    try:
        open_tokens(settings.data / "tokens")
        if settings.url.startswith("sqlite"):
            held.append(hold_folder(settings.data))
            listener = _listen(settings, fail)
    except FolderInUse as error:
        fail(str(error))
    except OSError as error:
        fail(unusable(settings, error))

    from fleet_server.serving import become_active, serve

    engine = become_active(settings, fail)
    listener = listener or _listen(settings, fail)  # a standby may stand on the active one's machine
    _note(LocalServer(listener.getsockname()[1], settings.data))
    serve(settings, engine, listener, fail)


def unusable(settings: Settings, error: OSError) -> str:
    return f"cannot use {error.filename or settings.data}: {error.strerror}; give another folder with --data"


def _note(server: LocalServer) -> None:
    """Without the note other programs of this account have to be told the token; that is no reason not to serve."""
    try:
        write_note(server)
    except OSError as error:
        log.warning("note_not_written", file=error.filename, why=error.strerror, instead="set FLEET_TOKEN")


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
        fail(
            f"{settings.host} is not a loopback address, and without TLS everybody on the way could read the tokens; "
            "let others in through a proxy (--public-url https://…) or a tunnel (ssh -L)"
        )
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
