"""One plain file per attempt: a byte-identical prefix of what the trainer printed.

The one append rule, whatever brought the bytes. At durable length D: an offset equal to D is appended, a lower
one must agree with what is there and only its rest is appended, a higher one is refused with D. So duplicates,
replays and a change of transport in mid-stream do no harm. Acknowledged means on disk.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import defaultdict
from pathlib import Path

from fleet_protocol.ids import AttemptId
from fleet_server.errors import LogDiverged, LogGap, StorageFull

SCAN_BYTES = 64 * 1024


class LogStore:
    """The folder of logs of one coordinator; only it writes there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: defaultdict[AttemptId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._grown: dict[AttemptId, asyncio.Event] = {}
        self.lengths: dict[AttemptId, int] = {}
        """Durable lengths of the logs that were appended to since the start."""

    def path(self, attempt: AttemptId) -> Path:
        return self._folder / attempt[:2] / f"{attempt}.log"

    def durable(self, attempt: AttemptId) -> int:
        """Bytes of this log that are on disk."""
        if attempt not in self.lengths:
            try:
                return self.path(attempt).stat().st_size
            except FileNotFoundError:
                return 0
        return self.lengths[attempt]

    async def append(self, attempt: AttemptId, offset: int, data: bytes) -> int:
        """Apply the append rule; the new durable length. LogGap, LogDiverged, StorageFull: nothing was taken."""
        async with self._locks[attempt]:
            durable = self.durable(attempt)
            if offset > durable:
                raise LogGap(f"{durable} bytes are here; go on from there.", current={"durable": durable})
            try:
                length = await asyncio.to_thread(_append, self.path(attempt), durable, offset, data)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise StorageFull from None
                raise
            self.lengths[attempt] = length
        if length > durable and (grown := self._grown.pop(attempt, None)):
            grown.set()
        return length

    async def append_hole(self, attempt: AttemptId, offset: int, length: int) -> int:
        """The same rule for bytes that the agent declares lost."""
        async with self._locks[attempt]:
            durable = self.durable(attempt)
            if offset > durable:
                raise LogGap(f"{durable} bytes are here; go on from there.", current={"durable": durable})
            if offset == durable:
                await asyncio.to_thread(_extend, self.path(attempt), durable + length)
                self.lengths[attempt] = durable + length
        if grown := self._grown.pop(attempt, None):
            grown.set()
        return self.durable(attempt)

    async def wait_beyond(self, attempt: AttemptId, offset: int, seconds: float) -> bool:
        """Whether there are durable bytes after `offset`, waiting at most `seconds` for them."""
        if self.durable(attempt) > offset:
            return True
        try:
            await asyncio.wait_for(self._grown.setdefault(attempt, asyncio.Event()).wait(), seconds)
        except TimeoutError:
            return False
        return self.durable(attempt) > offset

    async def read(self, attempt: AttemptId, offset: int, limit: int) -> bytes:
        """Durable bytes from `offset`, at most `limit`."""
        count = min(limit, self.durable(attempt) - offset)
        return await asyncio.to_thread(_read, self.path(attempt), offset, count) if count > 0 else b""

    async def tail_offset(self, attempt: AttemptId, lines: int) -> int:
        """Where the last `lines` lines begin, found from the end: the length of the log does not matter."""
        durable = self.durable(attempt)
        return await asyncio.to_thread(_tail_offset, self.path(attempt), durable, lines) if durable else 0


def _append(path: Path, durable: int, offset: int, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        overlap = durable - offset
        if overlap and os.pread(descriptor, min(overlap, len(data)), offset) != data[:overlap]:
            raise LogDiverged(current={"durable": durable})
        rest = memoryview(data)[overlap:]
        if not rest:
            return durable
        written = 0
        while written < len(rest):
            written += os.pwrite(descriptor, rest[written:], durable + written)
        os.fdatasync(descriptor)
        return durable + len(rest)
    except OSError:
        os.ftruncate(descriptor, durable)  # what was not acknowledged was never there
        raise
    finally:
        os.close(descriptor)


def _extend(path: Path, length: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, length)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, offset: int, count: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), count, offset)


def _tail_offset(path: Path, durable: int, lines: int) -> int:
    if lines <= 0:
        return durable
    with path.open("rb") as file:
        end, wanted = durable, lines + 1  # the newline before the first wanted line
        if os.pread(file.fileno(), 1, durable - 1) != b"\n":
            wanted = lines
        while end > 0:
            start = max(0, end - SCAN_BYTES)
            block = os.pread(file.fileno(), end - start, start)
            position = len(block)
            while (position := block.rfind(b"\n", 0, position)) >= 0:
                wanted -= 1
                if wanted == 0:
                    return start + position + 1
            end = start
    return 0
