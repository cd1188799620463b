"""Artifacts on disk: received in part, verified, and only then visible under their SHA-256.

`DATA/models/<model>_<mode>/<sha256>/bundle.tar.zst`, with one line per upload in `DATA/models/index.jsonl`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet_server.errors import DigestMismatch, StorageFull, UploadOffset

BUNDLE = "bundle.tar.zst"
READ_BYTES = 1024 * 1024


class ArtifactStore:
    """The folder of artifacts of one coordinator."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._parts = data / "uploads"
        self._index = data / "models" / "index.jsonl"
        self._parts.mkdir(parents=True, exist_ok=True)
        self._index.parent.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def place(model: str, mode: str, sha256: str) -> str:
        """The path of an artifact, relative to the data folder."""
        return f"models/{model}_{mode}/{sha256}/{BUNDLE}"

    def full_path(self, place: str) -> Path:
        return self._data / place

    def holds(self, place: str) -> bool:
        return self.full_path(place).is_file()

    def received(self, attempt: str, sha256: str) -> int:
        """Bytes of an unfinished upload that are there; 0 if there are none."""
        try:
            return self._part(attempt, sha256).stat().st_size
        except FileNotFoundError:
            return 0

    async def receive(self, attempt: str, sha256: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Append to the unfinished upload; returns its new length. UploadOffset when it does not go on there."""
        part = self._part(attempt, sha256)
        have = self.received(attempt, sha256)
        if offset not in (0, have):
            raise UploadOffset(f"{have} bytes are here; go on from there.", current={"offset": have})
        with _full_disk_told(), part.open("wb" if offset == 0 else "ab") as file:
            async for chunk in chunks:
                file.write(chunk)
            file.flush()
            return file.tell()

    def publish(self, attempt: str, sha256: str, place: str) -> int:
        """Verify the whole upload and make it visible; its size. DigestMismatch drops the bytes."""
        part, target = self._part(attempt, sha256), self.full_path(place)
        with _full_disk_told(), part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            if found != sha256:
                part.unlink()
                raise DigestMismatch(
                    f"The {size} bytes have the SHA-256 {found}, not {sha256}. Upload them again."
                )
            os.fsync(file.fileno())
        with _full_disk_told():
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            _sync_folder(target.parent)
            _sync_folder(target.parent.parent)
        return size

    def note(self, line: dict[str, object]) -> None:
        """Add one line to the index that people and scripts may read without the coordinator."""
        with _full_disk_told(), self._index.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, sort_keys=True) + "\n")

    def drop(self, attempt: str, sha256: str) -> None:
        self._part(attempt, sha256).unlink(missing_ok=True)

    def read(self, place: str) -> Iterator[bytes]:
        with self.full_path(place).open("rb") as file:
            while chunk := file.read(READ_BYTES):
                yield chunk

    def _part(self, attempt: str, sha256: str) -> Path:
        return self._parts / f"{attempt}-{sha256}.part"


def _sync_folder(folder: Path) -> None:
    """A rename is durable only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from None
        raise
