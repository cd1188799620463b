"""Places in a log: the last lines, and what came since a time. Found from the end, whatever the log's length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from fleet_server.logs.sidecar import Hole, offset_at

SCAN_BYTES = 64 * 1024
LONGEST_LINE_BYTES = 1024 * 1024
"""A line that is longer begins in its middle: progress bars of days are one line, redrawn for ever."""


class Log(Protocol):
    """A plain or a closed one, read in a thread."""

    @property
    def length(self) -> int: ...
    @property
    def holes(self) -> Sequence[Hole]: ...
    @property
    def rows_path(self) -> Path: ...

    def read(self, offset: int, count: int) -> bytes: ...


def tail_offset(log: Log, lines: int, end: int | None = None) -> int:
    """Where the last `lines` lines before `end` begin; what comes after the last newline is a line too."""
    end = log.length if end is None else end
    if lines <= 0:
        return end
    wanted, line_end = lines, end
    for start, block in _blocks_before(log, end):
        position = len(block) - (start + len(block) == end and block.endswith(b"\n"))
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            wanted, line_end = wanted - 1, start + position + 1
            if wanted == 0:
                return line_end
        if line_end - start >= LONGEST_LINE_BYTES:
            wanted, line_end = wanted - 1, start
            if wanted == 0:
                return line_end
    return 0


def since_offset(log: Log, at_ms: int) -> int:
    """The beginning of the line that was being written at `at_ms`; the log's length when nothing came since."""
    try:
        offset = offset_at(log.rows_path, at_ms)
    except FileNotFoundError:
        return 0
    if offset >= log.length:
        return log.length
    is_whole = offset == 0 or _read_back(log, offset - 1, offset) == b"\n"
    return offset if is_whole else tail_offset(log, 1, offset)


def _blocks_before(log: Log, end: int) -> Iterator[tuple[int, bytes]]:
    """What there is before `end`, backwards, without the holes."""
    for hole in (*reversed(log.holes), None):
        if hole is None or hole.end < end:
            low = hole.end if hole else 0
            while end > low:
                start = max(low, end - SCAN_BYTES)
                yield start, _read_back(log, start, end)
                end = start
        if hole:
            end = min(end, hole.start)


def _read_back(log: Log, start: int, end: int) -> bytes:
    data = b""
    while len(data) < end - start and (part := log.read(start + len(data), end - start - len(data))):
        data += part
    return data
