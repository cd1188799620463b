"""Blobs of the coordinator on this machine: pulled once, verified before they are visible, dropped when room is short.

CACHE/blobs/SHA256      a file as it was pushed; SHA256.part while it comes, which outlives the agent
CACHE/datasets/SHA256/  a folder, unpacked once for all jobs of this machine; its files cannot be written
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import structlog

from fleet_agent.threads import Watch, in_thread
from fleet_agent.transfers import Told, download
from fleet_agent.uplink import Refused, Uplink
from fleet_protocol.archive import NotArchived, unpack_archive
from fleet_protocol.ids import Sha256

log = structlog.get_logger()
GIB = 2**30
RESERVE_BYTES, RESERVE_SHARE = GIB, 0.05
"""Of the disk, the smaller is never taken for blobs: trainers write there too."""
READ_BYTES = 1 << 20
READ_ONLY = 0o400
PULLS = 2
MOST_HELD = 1000


class Unobtainable(Exception):
    """A blob cannot be had on this machine; another one may do better."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in the cache that takes room."""

    path: Path
    sha256: str
    size_bytes: int
    used_at: float


class BlobCache:
    """One agent's. `in_use` names the blobs of the attempts that it holds: those are never dropped."""

    def __init__(
        self, root: Path, cap_bytes: float, uplink: Uplink, in_use: Callable[[], Container[str]]
    ) -> None:
        self._blobs, self._folders = root / "blobs", root / "datasets"
        self._cap = cap_bytes
        self._uplink = uplink
        self._in_use = in_use
        self._pulling = asyncio.Lock()
        """One at a time: they share one line, and each has to know how much room there is."""
        for folder in (self._blobs, self._folders):
            folder.mkdir(exist_ok=True, mode=0o700)
            for torn in folder.glob("*.tmp"):
                shutil.rmtree(torn, ignore_errors=True)

    def holds(self) -> tuple[Sha256, ...]:
        """What is here whole."""
        names = (path.name for folder in (self._folders, self._blobs) for path in folder.iterdir())
        return tuple(Sha256(name) for name in names if "." not in name)[:MOST_HELD]

    async def file(self, sha256: Sha256, told: Told) -> Path:
        """A blob as one file, pulled if need be. Unobtainable, OSError."""
        async with self._pulling:
            return await self._file(sha256, told)

    async def content(self, sha256: Sha256, told: Told) -> Path:
        """What was pushed: a folder where it was one, else a file. Unobtainable, OSError.

        The two have one digest and so one meaning: a file that is such an archive to the last byte is the folder.
        """
        folder = self._folders / sha256
        async with self._pulling:
            if not folder.exists():
                file = await self._file(sha256, told)
                try:
                    await in_thread(lambda watch: _publish_folder(file, folder, watch))
                except NotArchived:
                    return file
                except OSError:
                    file.unlink()  # as a part of it: others need the room more
                    raise
                file.unlink()  # the folder is enough
            os.utime(folder)
            return folder

    async def pass_on(self, sha256: Sha256, target: Path, told: Told) -> None:
        """A blob for one attempt alone, whatever its size; the cache keeps none of it. Unobtainable, OSError."""
        async with self._pulling:
            await self._pull(sha256, target, told, math.inf)

    async def _file(self, sha256: Sha256, told: Told) -> Path:
        path = self._blobs / sha256
        if not path.exists():
            await self._pull(sha256, path, told, self._cap)
        os.utime(path)
        return path

    async def _pull(self, sha256: Sha256, target: Path, told: Told, cap: float) -> None:
        """Bring a blob to `target`, whole and verified or not at all."""
        part = target.with_name(target.name + ".part")

        async def expect(size: int) -> None:
            if size > cap:
                raise Unobtainable(
                    f"it has {size / GIB:.1f} GiB and the cache may hold {cap / GIB:.1f}; raise --cache-gib"
                )
            in_use = self._in_use()
            await in_thread(lambda _: self._make_room(sha256, size, cap, in_use))

        for _ in range(PULLS):
            try:
                await self._uplink.persist(
                    "pull a blob", lambda: download(self._uplink, sha256, part, expect, told)
                )
            except Refused as refusal:
                raise Unobtainable(f"the coordinator does not give it: {refusal}") from None
            except OSError:
                part.unlink(missing_ok=True)  # others need the room more
                raise
            if await in_thread(lambda watch: _digest(part, watch)) == sha256:
                await asyncio.to_thread(_publish_file, part, target)
                return
            log.warning("a blob arrived damaged and is dropped", action="blob_damaged", sha256=sha256)
            part.unlink()
        raise Unobtainable(f"its bytes arrived damaged {PULLS} times")

    def _make_room(self, sha256: Sha256, size: int, cap: float, in_use: Container[str]) -> None:
        """Drop what was not used for longest. What is in use stays, even where that passes the cap. OSError."""
        entries = sorted(self._entries(), key=lambda entry: entry.used_at)
        here = sum(entry.size_bytes for entry in entries if entry.sha256 == sha256)
        over = sum(entry.size_bytes for entry in entries) - here + size - cap
        disk = shutil.disk_usage(self._blobs)
        lacking = size - here + min(RESERVE_BYTES, RESERVE_SHARE * disk.total) - disk.free
        for entry in entries:
            if max(over, lacking) <= 0:
                break
            if entry.sha256 != sha256 and entry.sha256 not in in_use:
                _remove(entry.path)
                over, lacking = over - entry.size_bytes, lacking - entry.size_bytes
                log.info("dropped from the cache", action="blob_dropped", sha256=entry.sha256)
        if lacking > 0:
            raise OSError(errno.ENOSPC, f"the disk has {lacking / GIB:.1f} GiB too little room for it")

    def _entries(self) -> Iterator[Entry]:
        for path in (*self._blobs.iterdir(), *self._folders.iterdir()):
            yield Entry(path, path.name.partition(".")[0], _size(path), path.stat().st_mtime)


def _digest(path: Path, watch: Watch) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        watched = watch(file)
        while block := watched.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _publish_file(part: Path, target: Path) -> None:
    """On disk before it has its name, which is a promise that is not checked again."""
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    part.chmod(READ_ONLY)
    part.replace(target)


def _publish_folder(archive: Path, folder: Path, watch: Watch) -> None:
    draft = folder.with_name(f"{uuid4()}.tmp")
    try:
        with archive.open("rb") as file:
            unpack_archive(watch(file), draft)
        for path in draft.rglob("*"):
            if path.is_file():
                path.chmod(READ_ONLY)  # one job must not change what another one reads
        if os.name != "nt":
            os.sync()  # as `_publish_file`, but once for however many files there are
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _remove(path: Path) -> None:
    """Gone at once, whatever interrupts the rest."""
    if path.is_dir():
        path = path.rename(path.with_name(f"{uuid4()}.tmp"))
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(Path(parent, name).stat().st_size for parent, _, names in os.walk(path) for name in names)
