"""A folder as one reproducible stream: the same files give the same bytes, on any day and machine.

USTAR, sorted names, zero times and owners, mode 0644, regular files only. The SHA-256 of this stream names
datasets and sources, so it depends on no compression library.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn, Protocol

from fleet_protocol.ids import Sha256

BLOCK_BYTES = 1 << 20


class NotArchived(Exception):
    """The folder holds something that has no place in an archive; the message names it."""


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


def write_archive(folder: Path, sink: Sink) -> None:
    """Write `folder`'s regular files, sorted by name, into `sink`. OSError, NotArchived."""
    stream: IO[bytes] = sink  # type: ignore[assignment]  # tarfile's stream mode only writes
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT, encoding="utf-8") as archive:
        for name in sorted(_regular_files(folder)):
            _add(archive, folder / name, name)


def content_digest(path: Path) -> Sha256:
    """SHA-256 of a file's bytes, or of a folder's archive. OSError, NotArchived."""
    digest = _Digest()
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        write_archive(path, digest)
    elif not stat.S_ISREG(mode):  # reading a pipe or a device may never end
        raise NotArchived("only regular files and folders can be used")
    else:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.write(block)
    return Sha256(digest.sha256.hexdigest())


class _Digest:
    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self.sha256.update(data)


def _regular_files(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path.relative_to(folder).as_posix()
            elif not stat.S_ISDIR(mode):
                raise NotArchived(
                    f"{path.relative_to(folder)} is a link or special file; write its content instead"
                )


def _raise(error: OSError) -> NoReturn:
    raise error  # a folder that cannot be listed is not an empty one


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as file:
        entry = tarfile.TarInfo(name)
        entry.size = os.fstat(file.fileno()).st_size
        entry.mode = 0o644
        try:
            archive.addfile(entry, file)
        except ValueError as error:
            raise NotArchived(f"{name} does not fit into the archive format: {error}") from None
