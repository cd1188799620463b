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
_WINDOWS_SPECIAL = '\\:*?"<>|'


class NotArchived(Exception):
    """What is to be packed or unpacked has no place in an archive; the message names it."""


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Origin(Protocol):
    def read(self, size: int, /) -> bytes: ...


def write_archive(folder: Path, sink: Sink) -> None:
    """Write `folder`'s regular files, sorted by name, into `sink`. OSError, NotArchived."""
    stream: IO[bytes] = sink  # type: ignore[assignment]  # tarfile's stream mode only writes
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT, encoding="utf-8") as archive:
        for name in sorted(_regular_files(folder)):
            _add(archive, folder / name, name)


def unpack_archive(origin: Origin, folder: Path) -> None:
    """Write the files of an archive into `folder`, which must be new. OSError; NotArchived, with some written.

    Only what `write_archive` writes is taken, to the last byte, so that nothing of the archive's choosing is left: no
    links, modes or owners, no name that leads out of `folder` or comes twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    previous = ""
    while name := _unpack_next(origin, folder, previous):
        previous = name
    padding = origin.read(tarfile.RECORDSIZE + 1)
    if any(padding) or len(padding) > tarfile.RECORDSIZE:
        raise NotArchived("something follows the archive's end")


def _unpack_next(origin: Origin, folder: Path, previous: str) -> str:
    """Write one file; its name, or an empty one at the archive's end."""
    header = _exactly(origin, tarfile.BLOCKSIZE)
    if not any(header):
        return ""
    name, size = _plain_entry(header)
    if name <= previous:
        raise NotArchived(f"{name!r} is not in its place")
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for start in range(0, size, BLOCK_BYTES):
                file.write(_exactly(origin, min(BLOCK_BYTES, size - start)))
    except (FileExistsError, NotADirectoryError, ValueError) as error:
        raise NotArchived(f"{name!r} cannot be unpacked: {error}") from None
    if any(_exactly(origin, -size % tarfile.BLOCKSIZE)):
        raise NotArchived(f"something is hidden behind {name!r}")
    return name


def _plain_entry(header: bytes) -> tuple[str, int]:
    """Name and size of a file. NotArchived unless `write_archive` would have written this header for it."""
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        name, size = found.name, found.size
        is_ours = _entry(name, size).tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape") == header
    except (tarfile.HeaderError, ValueError, UnicodeError) as error:
        raise NotArchived(f"this is no archive: {error}") from None
    parts = name.split("/")
    if not is_ours or {"", ".", ".."} & {*parts}:
        raise NotArchived(f"{name!r} is not an entry of an archive of ours")
    if os.name == "nt" and set(name) & set(_WINDOWS_SPECIAL):
        raise NotArchived(f"{name!r} cannot be a file's name here")
    return name, size


def _exactly(origin: Origin, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (more := origin.read(count - len(data))):
            raise NotArchived("the archive is cut off")
        data += more
    return data


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
        try:
            archive.addfile(_entry(name, os.fstat(file.fileno()).st_size), file)
        except ValueError as error:
            raise NotArchived(f"{name} does not fit into the archive format: {error}") from None


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry
