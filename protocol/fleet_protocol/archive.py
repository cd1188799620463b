"""A folder as one reproducible stream: the same files give the same bytes, on any day and machine.

USTAR, sorted names, zero times and owners, mode 0644, regular files only. The SHA-256 of this stream names
datasets and sources, so it depends on no compression library.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn, Protocol

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
    for block in content_blocks(folder):
        sink.write(block)


def content_digest(path: Path) -> Sha256:
    """SHA-256 of a file's bytes, or of a folder's archive. OSError, NotArchived."""
    digest = hashlib.sha256()
    for block in content_blocks(path):
        digest.update(block)
    return Sha256(digest.hexdigest())


def content_size(path: Path) -> int:
    """How many bytes `content_blocks` gives. OSError, NotArchived."""
    return sum(size for _, size in _pieces(path))


def content_blocks(path: Path, offset: int = 0) -> Iterator[bytes]:
    """A file's bytes, or a folder's archive, from `offset` on. OSError, NotArchived."""
    end = 0
    for piece, size in _pieces(path):
        begin, end = end, end + size
        if end <= offset:
            continue
        skipped = max(0, offset - begin)
        if isinstance(piece, bytes):
            yield piece[skipped:]
        else:
            yield from _file_blocks(piece, size, skipped)


async def stream_content(path: Path, offset: int = 0) -> AsyncIterator[bytes]:
    """The same in larger blocks, for who must not stand still while a disk is read."""
    blocks = _gathered(content_blocks(path, offset))
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        yield block


def _gathered(blocks: Iterator[bytes]) -> Iterator[bytes]:
    pending = bytearray()
    for block in blocks:
        pending += block
        if len(pending) >= BLOCK_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


def _file_blocks(path: Path, size: int, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while offset <= size and (block := file.read(BLOCK_BYTES)):
            offset += len(block)
            if offset <= size:
                yield block
    if offset != size:
        raise NotArchived(f"{path.name} changed while it was read")


def _pieces(path: Path) -> Iterator[tuple[bytes | Path, int]]:
    """What stands behind each other, with its size: bytes, or a file that is opened only where it is read."""
    status = path.stat()
    if stat.S_ISREG(status.st_mode):
        yield path, status.st_size
        return
    if not stat.S_ISDIR(status.st_mode):  # reading a pipe or a device may never end
        raise NotArchived("only regular files and folders can be used")
    length = 2 * tarfile.BLOCKSIZE  # of zeros, the end
    for name in sorted(_regular_files(path)):
        size = (path / name).lstat().st_size
        header, padding = _header(name, size), bytes(-size % tarfile.BLOCKSIZE)
        yield from ((header, len(header)), (path / name, size), (padding, len(padding)))
        length += len(header) + size + len(padding)
    zeros = 2 * tarfile.BLOCKSIZE + -length % tarfile.RECORDSIZE
    yield bytes(zeros), zeros


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


def _header(name: str, size: int) -> bytes:
    """NotArchived where the format has no room for such a name or size."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    try:
        return entry.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    except ValueError as error:
        raise NotArchived(f"{name} does not fit into the archive format: {error}") from None


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
        is_ours = _header(name, size) == header
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
