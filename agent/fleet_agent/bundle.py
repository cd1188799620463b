"""An attempt's output as one reproducible file: the same files give the same bytes, on any day and machine."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet_protocol.ids import Sha256

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdFile
else:
    from backports.zstd import ZstdFile

LEVEL = 3  # one thread is the library's default; more would change the bytes
BLOCK_BYTES = 1 << 20


class NotBundled(Exception):
    """The output holds something that has no place in an artifact; the message names it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    path: Path
    sha256: Sha256
    size_bytes: int


def make_bundle(folder: Path, target: Path) -> Bundle:
    """Pack `folder`'s regular files, sorted by name, into `target` (tar, USTAR, then zstd). OSError, NotBundled."""
    with (
        ZstdFile(target, "w", level=LEVEL) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT, encoding="utf-8") as archive,
    ):
        for name in sorted(_regular_files(folder)):
            _add(archive, folder / name, name)
    return Bundle(target, *_digest(target))


def _regular_files(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path.relative_to(folder).as_posix()
            elif not stat.S_ISDIR(mode):
                raise NotBundled(
                    f"{path.relative_to(folder)} is a link or special file; write its content instead"
                )


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as file:
        entry = tarfile.TarInfo(name)
        entry.size = os.fstat(file.fileno()).st_size
        entry.mode = 0o644
        try:
            archive.addfile(entry, file)
        except ValueError as error:
            raise NotBundled(f"{name} does not fit into the archive format: {error}") from None


def _digest(path: Path) -> tuple[Sha256, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return Sha256(digest.hexdigest()), size
