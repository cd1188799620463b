"""A folder as one reproducible stream: the same files give the same bytes, on any day and machine.

USTAR, sorted names, zero times and owners, mode 0644, regular files only: a link inside the folder is packed as what it
leads to. The SHA-256 of this stream names
datasets and sources, so it depends on no compression library.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

from fleet_protocol.ids import Sha256

BLOCK_BYTES = 1 << 20
MOST_FILES = 1_000_000
LEAST_ROOM_BYTES = 4096
"""What an empty file takes: a block, or its share of one and its name."""
ROOM_SHARE = 0.9
"""Of the disk's free room, for what one archive unpacks to: its own size, packed, may be a thousandth of that."""
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
    for name, file in sorted(_regular_files(path.resolve())):
        size = file.lstat().st_size
        header, padding = _header(name, size), bytes(-size % tarfile.BLOCKSIZE)
        yield from ((header, len(header)), (file, size), (padding, len(padding)))
        length += len(header) + size + len(padding)
    zeros = 2 * tarfile.BLOCKSIZE + -length % tarfile.RECORDSIZE
    yield bytes(zeros), zeros


def _regular_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Each file's name in the archive, and where its bytes are. A link that stays inside counts as what it leads to."""
    pending: list[tuple[str, tuple[Path, ...]]] = [("", (root,))]
    while pending:
        prefix, way = pending.pop()
        with os.scandir(way[-1]) as entries:
            for entry in entries:
                name, path = prefix + entry.name, Path(entry)
                if entry.is_symlink():
                    path = _target(name, path, root)
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    yield name, path
                elif not stat.S_ISDIR(mode):
                    raise NotArchived(f"{name} is a special file; write its content instead")
                elif path in way:
                    raise NotArchived(f"{name} is a link that leads round in a circle")
                else:
                    pending.append((f"{name}/", (*way, path)))


def _target(name: str, link: Path, root: Path) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links that lead to each other
        raise NotArchived(f"{name} is a link that leads nowhere") from None
    if not target.is_relative_to(root):
        raise NotArchived(f"{name} is a link out of the folder; write its content instead")
    return target


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

    OSError too where the disk would become full, found before that is written which would fill it.

    Only what `write_archive` writes is taken, to the last byte, so that nothing of the archive's choosing is left: no
    links, modes or owners, no name that leads out of `folder` or comes twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    room = ROOM_SHARE * shutil.disk_usage(folder).free
    for name, size, blocks in read_archive(origin):
        path, room = folder / name, room - max(size, LEAST_ROOM_BYTES)
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for block in blocks:
                    file.write(block)
        except (FileExistsError, NotADirectoryError, ValueError) as error:
            raise NotArchived(f"{name!r} cannot be unpacked: {error}") from None


def read_archive(origin: Origin) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Name, size and content of one file after the other; blocks that nobody takes are skipped. OSError, NotArchived.

    Only what `write_archive` writes is taken, as by `unpack_archive`; that this is so is known at the end.
    """
    previous, files = "", 0
    while any(header := _exactly(origin, tarfile.BLOCKSIZE)):
        if (files := files + 1) > MOST_FILES:
            raise NotArchived(f"it holds more than {MOST_FILES:,} files")
        name, size = _plain_entry(header)
        if name <= previous:
            raise NotArchived(f"{name!r} is not in its place")
        previous, blocks = name, _content(origin, size)
        yield name, size, blocks
        for _ in blocks:
            pass
        if any(_exactly(origin, -size % tarfile.BLOCKSIZE)):
            raise NotArchived(f"something is hidden behind {name!r}")
    padding = origin.read(tarfile.RECORDSIZE + 1)
    if any(padding) or len(padding) > tarfile.RECORDSIZE:
        raise NotArchived("something follows the archive's end")


def _content(origin: Origin, size: int) -> Iterator[bytes]:
    for start in range(0, size, BLOCK_BYTES):
        yield _exactly(origin, min(BLOCK_BYTES, size - start))


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
