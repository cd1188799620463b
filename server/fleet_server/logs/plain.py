"""A log that still grows: its bytes as they came, sparse where there is a hole, and its sidecar.

Functions here block. What is written behind the acknowledged length is no part of the log: the next append writes
over it, and recovery cuts it off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import structlog

from fleet_server.durable import sync
from fleet_server.logs.sidecar import ROW_BYTES, Hole, Kind, Row, add_hole, holes_of, read_rows

log = structlog.get_logger()
BLOCK_BYTES = 1024 * 1024
READS_AT_ONCE = hasattr(os, "RWF_NOWAIT")  # Linux: a read that says so instead of waiting for the disk


@dataclass(slots=True)
class PlainLog:
    """Its files, and how much of them counts. Changed in the event loop only, by whoever holds `lock`."""

    path: Path
    rows_path: Path
    length: int = 0
    rows: int = 0
    last_ms: int = 0
    holes: Sequence[Hole] = ()
    is_recovered: bool = False
    is_closed: bool = False
    """It is a compressed log by now; look for it anew."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def row(self, end: int, at_ms: int, kind: Kind) -> Row:
        """The next row. Times never go backwards, or no time could be found by bisection."""
        return Row(end, max(at_ms, self.last_ms), kind)

    def accept(self, row: Row) -> None:
        """`row` and what it is about are on disk."""
        if row.kind is not Kind.DATA:
            holes = list(self.holes)
            add_hole(holes, Hole(self.length, row.end, row.kind))
            self.holes = holes
        self.length, self.last_ms, self.rows = row.end, row.at_ms, self.rows + 1

    def restore(self, rows: Sequence[Row]) -> None:
        if rows:
            self.length, self.last_ms = rows[-1].end, rows[-1].at_ms
        self.rows, self.holes, self.is_recovered = len(rows), holes_of(rows), True

    def read(self, offset: int, count: int) -> bytes:
        with _opened(self.path, os.O_RDONLY) as file:
            return os.pread(file, count, offset)

    def read_at_once(self, offset: int, count: int) -> bytes:
        """As `read`, but only what is in memory; empty when the disk would have to be waited for."""
        if not READS_AT_ONCE:
            return b""
        buffer = bytearray(count)
        try:
            with _opened(self.path, os.O_RDONLY) as file:
                return bytes(memoryview(buffer)[: os.preadv(file, [buffer], offset, os.RWF_NOWAIT)])
        except OSError:  # not there, or a file system that knows no such read; `read` says what is wrong
            return b""

    def create(self) -> None:
        """Make both files; the sidecar first, so that a log without one is not mistaken for one of its own."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.rows_path, self.path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    def sync_names(self) -> None:
        """Make the names of new files durable."""
        sync(self.path.parent)
        sync(self.path.parent.parent)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset` on the disk. OSError: nothing counts."""
        with _opened(self.path, os.O_RDWR) as file:
            try:
                _write_all(file, data, offset)
                os.fdatasync(file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file, offset)  # a full disk gets its space back
                raise

    def extend(self, start: int, end: int) -> None:
        """Make the file end at `end`, with a hole from `start` on."""
        with _opened(self.path, os.O_RDWR) as file:
            os.ftruncate(file, start)  # what a failed write may have left
            os.ftruncate(file, end)
            os.fdatasync(file)

    def write_row(self, index: int, row: Row, data: bytes | memoryview = b"") -> None:
        """Put `row`, about `data`, on the disk as number `index`."""
        packed = row._replace(crc=crc32(data)).packed()
        with _opened(self.rows_path, os.O_RDWR) as file:
            _write_all(file, packed, index * ROW_BYTES)
            os.fdatasync(file)

    def recover(self) -> list[Row]:
        """Cut file and sidecar to the last batch that is whole, and put that on the disk; its rows.

        Only the last batch can have been under way when a coordinator died. It may be in the system's memory and
        not on the disk, after a failed write even marked as if it were, so it is written once more.
        """
        if not self.path.exists():
            return []
        if not self.rows_path.exists():
            self._adopt()
        rows = read_rows(self.rows_path)
        while rows and not self._is_whole(rows):
            rows.pop()
        start, end = _last_span(rows)
        with _opened(self.path, os.O_RDWR) as file, _opened(self.rows_path, os.O_RDWR) as sidecar:
            if torn := os.fstat(file).st_size - end:
                log.info("log_torn", file=self.path.name, bytes=torn)
            if rows and rows[-1].kind is not Kind.DATA:
                os.ftruncate(file, start)  # what a failed write may have left where the hole is
            os.ftruncate(file, end)
            os.ftruncate(sidecar, len(rows) * ROW_BYTES)
            if rows and rows[-1].kind is Kind.DATA:
                for at, block in _blocks(file, start, end):
                    _write_all(file, block, at)
            if rows:
                _write_all(sidecar, rows[-1].packed(), (len(rows) - 1) * ROW_BYTES)
            os.fdatasync(file)
            os.fdatasync(sidecar)
        self.sync_names()
        return rows

    def _adopt(self) -> None:
        """A log whose sidecar is gone stands as it is: nobody can say what of it was acknowledged."""
        with _opened(self.path, os.O_RDONLY) as file:
            end, crc = os.fstat(file).st_size, 0
            for _, block in _blocks(file, 0, end):
                crc = crc32(block, crc)
            at_ms = os.fstat(file).st_mtime_ns // 1_000_000
        row = Row(end, at_ms, Kind.DATA, crc)
        self.rows_path.write_bytes(row.packed() if end else b"")

    def _is_whole(self, rows: Sequence[Row]) -> bool:
        if rows[-1].kind is not Kind.DATA:
            return True
        start, end = _last_span(rows)
        crc = 0
        with _opened(self.path, os.O_RDONLY) as file:
            for at, block in _blocks(file, start, end):
                crc, start = crc32(block, crc), at + len(block)
        return start == end and crc == rows[-1].crc


def _last_span(rows: Sequence[Row]) -> tuple[int, int]:
    """Where the last batch begins and ends."""
    start, end = [0, 0, *(row.end for row in rows[-2:])][-2:]
    return start, end


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _blocks(descriptor: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    while start < end:
        block = os.pread(descriptor, min(BLOCK_BYTES, end - start), start)
        if not block:
            return
        yield start, block
        start += len(block)
