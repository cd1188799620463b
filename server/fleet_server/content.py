"""Bytes under the SHA-256 that names them: received in parts, verified, and only then visible.

Artifacts and blobs are kept by the one store; each says at which place of the data folder its own are.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from weakref import WeakValueDictionary

from fleet_protocol.ids import Sha256
from fleet_protocol.workers import UploadAnswer
from fleet_server.durable import sync
from fleet_server.errors import DigestMismatch, StorageFull, TooLarge, UploadOffset

BLOCK_BYTES = 1024 * 1024
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes a request brings: from `offset` up to but without `end`, of `total` in all."""

    offset: int
    end: int
    total: int


def unfinished(sha256: str) -> str:
    """The place of what came so far of an upload."""
    return f"uploads/{sha256}.part"


class ContentStore:
    """The stored bytes of one coordinator, and what came so far of those that are still on their way."""

    def __init__(self, data: Path, max_bytes: int, patience: float = PATIENCE_SECONDS) -> None:
        """`patience`: seconds of silence after which an upload ends; whoever goes on with it waits for that."""
        self._data = data
        self.path(unfinished("")).parent.mkdir(parents=True, exist_ok=True)
        self._max_bytes = max_bytes
        self._patience = patience
        self._locks: WeakValueDictionary[Sha256, asyncio.Lock] = WeakValueDictionary()

    def lock(self, sha256: Sha256) -> asyncio.Lock:
        """To be held while these bytes, or what the database says of them, come or go."""
        return self._locks.setdefault(sha256, asyncio.Lock())

    def path(self, place: str) -> Path:
        return self._data / place

    def size(self, place: str) -> int | None:
        """Bytes at `place`; None if it holds nothing."""
        try:
            return self.path(place).stat().st_size
        except FileNotFoundError:
            return None

    def received(self, sha256: Sha256) -> int:
        """Bytes of an unfinished upload that are there; 0 if there are none."""
        return self.size(unfinished(sha256)) or 0

    async def take(
        self, sha256: Sha256, place: str, part: Part, chunks: AsyncIterator[bytes]
    ) -> UploadAnswer:
        """Take a part, under the lock; verify and publish when it was the last.

        Whatever is refused, `place` holds the right bytes or nothing. A part that was cut off counts as far as it came.
        """
        if (size := self.size(place)) is not None:
            return UploadAnswer(sha256=sha256, size_bytes=size, stored=False)
        self._require_sense(sha256, part)
        path = self.path(unfinished(sha256))
        try:
            with full_disk_told():
                length, digest = await _receive(path, part, _watched(chunks, part, self._patience))
                if length == part.total:
                    await asyncio.to_thread(self._publish, sha256, path, digest, self.path(place))
        except (StorageFull, TooLarge) as error:
            # What else is written here needs the room more; what was not announced leaves no trace.
            _cut(path, part.offset if isinstance(error, TooLarge) else 0)
            raise
        return UploadAnswer(sha256=sha256, size_bytes=length, stored=length == part.total)

    def _require_sense(self, sha256: Sha256, part: Part) -> None:
        if part.total > self._max_bytes:
            raise TooLarge(f"At most {self._max_bytes} bytes are accepted, these are {part.total}.")
        have = self.received(sha256)
        if part.offset not in (0, have):
            raise UploadOffset(f"{have} bytes are here; go on from there.", current={"offset": have})
        if part.total - part.offset > shutil.disk_usage(self._data).free:
            raise StorageFull

    def _publish(self, sha256: Sha256, path: Path, digest: str | None, target: Path) -> None:
        """Verify all that came and make it visible; DigestMismatch drops the bytes."""
        with path.open("rb") as file:
            found = digest or hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                path.unlink()
                raise DigestMismatch(f"The bytes have the SHA-256 {found}, not {sha256}. Upload them again.")
            os.fsync(file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        for folder in (target.parent, target.parent.parent):
            sync(folder)

    def remove(self, sha256: Sha256, place: str) -> None:
        """Take bytes away, under the lock, and a folder that was theirs alone."""
        path = self.path(place)
        path.unlink(missing_ok=True)
        if path.parent.name == sha256:
            path.parent.rmdir()

    def untouched(self, places: str, before: datetime) -> dict[Sha256, int]:
        """Bytes of the files that a pattern of places means, by digest; none that was written since `before`."""
        found = ((path, path.stat()) for path in self._data.glob(places))
        oldest = before.timestamp()
        return {Sha256(path.stem): stat.st_size for path, stat in found if stat.st_mtime < oldest}


async def _receive(path: Path, part: Part, chunks: AsyncIterator[bytes]) -> tuple[int, str | None]:
    """Append to the unfinished upload; its length and, where all of it was seen in passing, its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb" if part.offset == 0 else "ab") as file:

        def write(block: bytearray) -> None:
            digest.update(block)
            file.write(block)

        pending = bytearray()
        try:
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= BLOCK_BYTES:
                    block, pending = pending, bytearray()
                    await asyncio.to_thread(write, block)
        finally:
            write(pending)  # also where the connection broke: a bad line gets further with every try
        file.flush()
        return file.tell(), None if part.offset else digest.hexdigest()


async def _watched(chunks: AsyncIterator[bytes], part: Part, patience: float) -> AsyncIterator[bytes]:
    """What a client sends: never more than it announced, and nothing more from one that fell silent."""
    length = part.offset
    while True:
        try:
            async with asyncio.timeout(patience):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise UploadOffset(f"No byte came for {patience:g} s; ask how far it got, and go on.") from None
        if chunk is None:
            return
        length += len(chunk)
        if length > part.end:
            raise TooLarge(f"More came than the {part.end - part.offset} bytes that were announced.")
        yield chunk


def _cut(path: Path, length: int) -> None:
    if length:
        os.truncate(path, length)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """A full disk is a refusal that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from None
        raise
