"""A log that is over: independent zstd frames of 1 MiB each, and a table of where they are.

This is zstd's "seekable format": the table is a skippable frame at the end, so `zstd -d` reads the file too.
Functions here block.
"""

from __future__ import annotations

import os
import struct
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import IO
from zlib import crc32

from fleet_server.durable import sync
from fleet_server.logs.sidecar import Hole, Kind, Row, first_hole, holes_of, read_rows

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdError, compress, decompress
else:
    from backports.zstd import CompressionParameter, ZstdError, compress, decompress

FRAME_BYTES = 1024 * 1024
KEPT_HEAD_BYTES, KEPT_TAIL_BYTES = 64 * 1024, 256 * 1024
"""What is kept of an expired log: how it began, and how it ended."""
_OPTIONS: dict[int, int] = {CompressionParameter.compression_level: 3, CompressionParameter.checksum_flag: 1}
_LOST = "The log {} is damaged, what is whole of it `zstd -d` still reads there:"
_ZEROS = bytes(FRAME_BYTES)
_PACKED_ZEROS = compress(_ZEROS, options=_OPTIONS)
_SKIPPABLE = struct.Struct("<II")  # magic, size of what follows
_ENTRY = struct.Struct("<II")  # compressed and plain size of a frame
_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor, magic
_SKIPPABLE_MAGIC, _SEEKABLE_MAGIC = 0x184D2A5E, 0x8F92EAB1
Read = Callable[[int, int], bytes]
"""At least one and at most `count` bytes at `offset`."""


class Damaged(OSError):
    """The file is not what was once written and verified."""


class Interrupted(Exception):
    """The coordinator ends; it is done at its next start."""


@dataclass(slots=True, weakref_slot=True)
class ClosedLog:
    """The open file with its table, and the frame that was read last."""

    path: Path
    rows_path: Path
    length: int
    holes: Sequence[Hole]
    _file: int = field(repr=False)
    _frames: Sequence[int] = field(repr=False)
    """Where each frame begins; one more than there are frames."""
    _last: tuple[int, bytes] = field(default=(-1, b""), repr=False)

    @classmethod
    def open(cls, path: Path, rows_path: Path) -> ClosedLog:
        """FileNotFoundError, Damaged. The file stays open, whatever gets its name later."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            sizes = _read_table(descriptor, path)
        except BaseException:  # nobody would ever close it
            os.close(descriptor)
            raise
        frames = [0, *accumulate(packed for packed, _ in sizes)]
        found = cls(
            path,
            rows_path,
            sum(plain for _, plain in sizes),
            holes_of(read_rows(rows_path)),
            descriptor,
            frames,
        )
        weakref.finalize(found, os.close, descriptor)
        return found

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes; fewer at the end of a frame, at least one while there is any."""
        index, start = divmod(offset, FRAME_BYTES)
        return self._frame(index)[start : start + count] if offset < self.length else b""

    def read_at_once(self, offset: int, count: int) -> bytes:
        """As `read`, where it is in memory; else empty."""
        return self.read(offset, count) if self._last[0] == offset // FRAME_BYTES else b""

    def _frame(self, index: int) -> bytes:
        known, data = self._last
        if known != index:
            start, end = self._frames[index : index + 2]
            try:
                data = decompress(os.pread(self._file, end - start, start))
            except ZstdError as error:
                at = index * FRAME_BYTES
                gone = f"its bytes {at} to {min(self.length, at + FRAME_BYTES)} cannot be read, others can"
                raise Damaged(f"The log {self.path.name} is damaged: {gone}") from error
            self._last = (index, data)
        return data


def pack(read: Read, target: Path, length: int, gone: Sequence[Hole], may_go_on: Callable[[], bool]) -> None:
    """Make `target` of the log that `read` gives, zeros where it is `gone`; it is durable and read back before it
    gets its name. OSError, Interrupted: there is no `target`.
    """
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        table = [_put(file, data) for data in _frames(read, length, gone, may_go_on)]
        entries = b"".join(_ENTRY.pack(*sizes) for sizes in table)
        file.write(_SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(entries) + _FOOTER.size) + entries)
        file.write(_FOOTER.pack(len(table), 0, _SEEKABLE_MAGIC))
        file.flush()
        os.fsync(file.fileno())
    written = ClosedLog.open(part, part)
    for index, data in enumerate(_frames(read, length, gone, may_go_on)):
        if written.read(index * FRAME_BYTES, FRAME_BYTES) != data:
            raise Damaged(f"{part} does not read as it was written")
    part.rename(target)


def shorten(log: ClosedLog, may_go_on: Callable[[], bool]) -> None:
    """Replace a closed log by its beginning and its end. The rows come first, so that no zeros pass for bytes."""
    hole = Hole(KEPT_HEAD_BYTES, log.length - KEPT_TAIL_BYTES, Kind.EXPIRED)
    if hole.start >= hole.end:
        return
    rows = _clipped(read_rows(log.rows_path), hole, log.read)
    part = log.rows_path.with_suffix(".rows.part")
    with part.open("wb") as file:
        file.write(b"".join(row.packed() for row in rows))
        file.flush()
        os.fsync(file.fileno())
    part.rename(log.rows_path)
    sync(part.parent)
    pack(log.read, log.path, log.length, holes_of(rows), may_go_on)
    sync(part.parent)


def _clipped(rows: Sequence[Row], hole: Hole, read: Read) -> list[Row]:
    """The rows of the same log once `hole` is in it."""
    found: list[Row] = []
    start = 0
    for row in rows:
        for end, kind in (
            (min(row.end, hole.start), row.kind),
            (min(row.end, hole.end), hole.kind),
            (row.end, row.kind),
        ):
            if end > start:
                crc = crc32(b"".join(_parts(read, start, end))) if kind is Kind.DATA else 0
                found.append(Row(end, row.at_ms, kind, crc))
                start = end
    return found


def _parts(read: Read, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        if not (part := read(start, end - start)):
            raise Damaged(f"the log ends at {start}, before its acknowledged length")
        yield part
        start += len(part)


def _frames(read: Read, length: int, gone: Sequence[Hole], may_go_on: Callable[[], bool]) -> Iterator[bytes]:
    for start in range(0, length, FRAME_BYTES):
        if not may_go_on():
            raise Interrupted
        yield _frame_of(read, start, min(length, start + FRAME_BYTES), gone)


def _frame_of(read: Read, start: int, end: int, gone: Sequence[Hole]) -> bytes:
    first = first_hole(gone, start)
    if first and first.start <= start and first.end >= end:  # not read: a hole may be larger than any disk
        return _ZEROS[: end - start]
    data = bytearray().join(_parts(read, start, end))
    for hole in gone:
        low, high = max(hole.start, start) - start, min(hole.end, end) - start
        if low < high:
            data[low:high] = _ZEROS[: high - low]
    return bytes(data)


def _put(file: IO[bytes], data: bytes) -> tuple[int, int]:
    packed = _PACKED_ZEROS if data is _ZEROS else compress(data, options=_OPTIONS)
    file.write(packed)
    return len(packed), len(data)


def _read_table(file: int, path: Path) -> list[tuple[int, int]]:
    size = os.fstat(file).st_size
    try:
        count, _, magic = _FOOTER.unpack(os.pread(file, _FOOTER.size, size - _FOOTER.size))
        table = size - _FOOTER.size - count * _ENTRY.size
        head = _SKIPPABLE.unpack(os.pread(file, _SKIPPABLE.size, table - _SKIPPABLE.size))
    except (OSError, struct.error) as error:
        raise Damaged(f"{_LOST.format(path.name)} it is cut short") from error
    if (magic, head) != (_SEEKABLE_MAGIC, (_SKIPPABLE_MAGIC, count * _ENTRY.size + _FOOTER.size)):
        raise Damaged(f"{_LOST.format(path.name)} it has no table of its frames")
    return list(_ENTRY.iter_unpack(os.pread(file, count * _ENTRY.size, table)))
