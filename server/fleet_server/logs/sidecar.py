"""The rows beside a log: one per acknowledged batch or hole, of fixed size, appended and never changed.

A row gives the batch's end, the coordinator's time and the CRC of the bytes. So a torn tail can be told from what
was acknowledged, and a time is found by bisection.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

_BODY = struct.Struct(">QQII")  # end offset, time in milliseconds, kind, CRC-32 of the bytes
_CHECK = struct.Struct(">I")  # CRC-32 of the row itself
ROW_BYTES = _BODY.size + _CHECK.size


class Kind(IntEnum):
    DATA = 1
    LOST = 2  # a hole that the agent declared
    EXPIRED = 3  # a hole that retention made


class Row(NamedTuple):
    """What came after the row before, up to byte `end`."""

    end: int
    at_ms: int
    kind: Kind
    crc: int = 0

    def packed(self) -> bytes:
        body = _BODY.pack(*self)
        return body + _CHECK.pack(crc32(body))


class Hole(NamedTuple):
    """Bytes that are not there and read as zeros."""

    start: int
    end: int
    kind: Kind


def parsed(raw: bytes) -> Iterator[Row]:
    """The rows up to the first one that is torn, or that does not go on from the one before."""
    end = 0
    for at in range(0, len(raw) - ROW_BYTES + 1, ROW_BYTES):
        body = raw[at : at + _BODY.size]
        if _CHECK.unpack_from(raw, at + _BODY.size)[0] != crc32(body):
            return
        row = Row(*_BODY.unpack(body))
        if row.end <= end:
            return
        end = row.end
        yield row._replace(kind=Kind(row.kind))


def read_rows(path: Path) -> list[Row]:
    """All valid rows; none where there is no file."""
    try:
        return list(parsed(path.read_bytes()))
    except FileNotFoundError:
        return []


def holes_of(rows: Iterable[Row]) -> list[Hole]:
    """The holes in order, those of one kind that touch each other joined."""
    found: list[Hole] = []
    start = 0
    for row in rows:
        if row.kind is not Kind.DATA:
            add_hole(found, Hole(start, row.end, row.kind))
        start = row.end
    return found


def add_hole(holes: list[Hole], hole: Hole) -> None:
    """Append `hole`, joined with the last one where that touches it."""
    if holes and (holes[-1].end, holes[-1].kind) == (hole.start, hole.kind):
        hole = Hole(holes.pop().start, hole.end, hole.kind)
    holes.append(hole)


def first_hole(holes: Sequence[Hole], offset: int) -> Hole | None:
    """The hole at `offset`, else the first one behind it."""
    low, high = 0, len(holes)
    while low < high:
        middle = (low + high) // 2
        if holes[middle].end > offset:
            high = middle
        else:
            low = middle + 1
    return holes[low] if low < len(holes) else None


def offset_at(path: Path, at_ms: int) -> int:
    """Where the batches begin that came at `at_ms` or later: rows are in the order of time."""
    with path.open("rb") as file:
        low, high = 0, os.fstat(file.fileno()).st_size // ROW_BYTES
        while low < high:
            middle = (low + high) // 2
            if _read_row(file.fileno(), middle).at_ms >= at_ms:
                high = middle
            else:
                low = middle + 1
        return _read_row(file.fileno(), low - 1).end if low else 0


def second_at(path: Path, offset: int) -> tuple[int, int] | None:
    """When the byte at `offset` came, in whole seconds, and where the bytes of that second end; None before its row."""
    with path.open("rb") as file:
        count = os.fstat(file.fileno()).st_size // ROW_BYTES
        index = bisect_right(range(count), offset, key=lambda at: _read_row(file.fileno(), at).end)
        if index == count:
            return None
        row = _read_row(file.fileno(), index)
    second = row.at_ms // 1000
    return second, max(row.end, offset_at(path, (second + 1) * 1000))


def _read_row(descriptor: int, index: int) -> Row:
    return Row(*_BODY.unpack(os.pread(descriptor, _BODY.size, index * ROW_BYTES)))
