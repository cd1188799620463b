"""The coordinator's folder of logs: per attempt a byte-identical prefix of what the trainer printed.

The one append rule, whatever brought the bytes. At durable length D: an offset equal to D is appended, a lower
one must agree with what is there and only its rest is appended, a higher one is refused with D. So duplicates,
replays and a change of transport in mid-stream do no harm. Acknowledged means that bytes and row are on disk.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from fleet_protocol.ids import AttemptId
from fleet_server.clock import Clock
from fleet_server.content import full_disk_told
from fleet_server.durable import sync
from fleet_server.errors import LogClosed, LogDiverged, LogGap, StorageFull
from fleet_server.logs import reading
from fleet_server.logs.closed import ClosedLog, pack, shorten
from fleet_server.logs.plain import PlainLog
from fleet_server.logs.sidecar import Hole, Kind, Row, first_hole, second_at

log = structlog.get_logger()
T = TypeVar("T")
AnyLog = PlainLog | ClosedLog
THREADS = 32
"""Many files synced at once cost a disk little more than one; a thread's time is spent waiting for that."""
CLOSED_IN_MEMORY = 16
SUFFIXES = (".log", ".log.zst", ".rows")


class LogStore:
    """The folder of logs of one coordinator; only it writes there."""

    def __init__(self, folder: Path, clock: Clock, reserve_bytes: int = 0) -> None:
        """Nothing is taken while the disk has less than `reserve_bytes` free: the database needs them more."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.reserve_bytes = reserve_bytes
        self.lengths: dict[AttemptId, int] = {}
        """Durable lengths of the logs that grew since the start and are not closed."""
        self._clock = clock
        self._pool = ThreadPoolExecutor(THREADS, "logs")
        self._plain: dict[AttemptId, PlainLog] = {}
        self._closed: OrderedDict[AttemptId, ClosedLog] = OrderedDict()
        self._stirred: dict[AttemptId, asyncio.Event] = {}
        self._is_full = self._is_stopping = False

    def path(self, attempt: AttemptId, suffix: str = ".log") -> Path:
        """Of the plain log; with `.log.zst` of the closed one, with `.rows` of the sidecar."""
        return self.folder / attempt[:2] / f"{attempt}{suffix}"

    def size(self, attempt: AttemptId) -> int:
        """Bytes that its files take from the disk; holes take none."""
        paths = [self.path(attempt, suffix) for suffix in SUFFIXES]
        return sum(path.stat().st_blocks * 512 for path in paths if path.exists())

    def stop(self) -> None:
        """Leave compression, which may take long, to the next start."""
        self._is_stopping = True

    # Appending

    async def append(self, attempt: AttemptId, offset: int, data: bytes) -> int:
        """Apply the append rule; the durable length.

        LogGap, LogDiverged, LogClosed, StorageFull, OSError: nothing was taken.
        """
        return await self._append(attempt, offset, len(data), data)

    async def append_hole(self, attempt: AttemptId, offset: int, size: int) -> int:
        """The same rule for bytes that the agent declares lost; what of them is here already stays."""
        log.info("log_hole", attempt=attempt, offset=offset, bytes=size)
        return await self._append(attempt, offset, size, None)

    async def _append(self, attempt: AttemptId, offset: int, size: int, data: bytes | None) -> int:
        while True:
            found = await self._find(attempt)
            if offset != found.length:
                what = "log_gap" if offset > found.length else "log_overlap"
                log.info(what, attempt=attempt, offset=offset, durable=found.length)
            if isinstance(found, ClosedLog):
                await self._check(found, offset, data or b"")
                if offset + size > found.length:
                    raise LogClosed(current={"durable": found.length})
                return found.length
            async with found.lock:
                if not found.is_closed:
                    await self._check(found, offset, data or b"")
                    if offset + size > found.length:
                        await self._extend(found, offset + size, data and data[found.length - offset :])
                        self.lengths[attempt] = found.length
                        self.stir(attempt)
                    return found.length

    async def _check(self, found: AnyLog, offset: int, data: bytes) -> None:
        """Refuse a gap, and bytes that differ from those that are there."""
        if offset > found.length:
            raise LogGap(
                f"{found.length} bytes are here; go on from there.", current={"durable": found.length}
            )
        agreed, overlap = 0, min(len(data), found.length - offset)
        while agreed < overlap:
            stored = await self._read(found, offset + agreed, overlap - agreed)
            if not data.startswith(stored, agreed):
                raise LogDiverged(current={"durable": found.length})
            agreed += len(stored)

    async def _extend(self, found: PlainLog, end: int, data: bytes | None) -> None:
        """Make the log `end` bytes long by `data`, or by a hole. Bytes and row are synced at the same time."""
        self._require_room(found)
        now_ms = int(self._clock.now().timestamp() * 1000)
        row = found.row(end, now_ms, Kind.LOST if data is None else Kind.DATA)
        jobs: list[Callable[[], object]] = [
            partial(found.extend, found.length, end)
            if data is None
            else partial(found.write, found.length, data),
            partial(found.write_row, found.rows, row, data or b""),
        ]
        try:
            if found.rows == 0:
                found.create()
                jobs.append(found.sync_names)
            await self._all(jobs)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                raise StorageFull(current={"durable": found.length}) from None
            raise
        found.accept(row)

    def _require_room(self, found: PlainLog) -> None:
        disk = os.statvfs(self.folder)
        is_full = disk.f_bavail * disk.f_frsize < self.reserve_bytes
        if is_full != self._is_full:
            self._is_full = is_full
            (log.error if is_full else log.info)(
                "logs_refused" if is_full else "logs_taken_again", folder=str(self.folder)
            )
        if is_full:
            raise StorageFull(current={"durable": found.length})

    # Reading

    async def durable(self, attempt: AttemptId) -> int:
        """Bytes of this log that are on disk."""
        return (await self._find(attempt)).length

    async def read(self, attempt: AttemptId, offset: int, limit: int) -> bytes:
        """Durable bytes from `offset`, at most `limit` and at least one while there is any."""
        while True:
            found = await self._find(attempt)
            try:
                return await self._read(found, offset, min(limit, found.length - offset))
            except FileNotFoundError:
                if not _was_closed(found):
                    raise

    async def holes(self, attempt: AttemptId) -> Sequence[Hole]:
        return (await self._find(attempt)).holes

    async def hole(self, attempt: AttemptId, offset: int) -> Hole | None:
        """The hole at `offset`, else the next one."""
        return first_hole(await self.holes(attempt), offset)

    async def tail_offset(self, attempt: AttemptId, lines: int) -> int:
        """Where the last `lines` lines begin."""
        return await self._ask(attempt, lambda found: reading.tail_offset(found, lines))

    async def since_offset(self, attempt: AttemptId, at_ms: int) -> int:
        """Where the lines begin that came at `at_ms` (Unix time) or later."""
        return await self._ask(attempt, lambda found: reading.since_offset(found, at_ms))

    async def second_at(self, attempt: AttemptId, offset: int) -> tuple[int, int] | None:
        """When the byte at `offset` came, in whole seconds, and where the bytes of that second end."""
        return await self._ask(attempt, lambda found: second_at(found.rows_path, offset))

    async def quiet_since_ms(self, attempt: AttemptId) -> int:
        """When the last bytes came; 0 when none did."""
        found = await self._find(attempt)
        return found.last_ms if isinstance(found, PlainLog) else 0

    def stirred(self, attempt: AttemptId) -> asyncio.Event:
        """Set when the log has grown; to be asked for before looking, so that nothing is missed in between."""
        return self._stirred.setdefault(attempt, asyncio.Event())

    def stir(self, attempt: AttemptId) -> None:
        """Let everybody who waits for this log look again."""
        if stirred := self._stirred.pop(attempt, None):
            stirred.set()

    # Closing

    async def close(self, attempt: AttemptId) -> None:
        """Compress a log that gets no more bytes.

        At whatever step this ends there is one valid copy, and closing again finishes what was begun.
        """
        found = await self._find(attempt)
        if isinstance(found, PlainLog):
            async with found.lock:
                if found.length and not found.is_closed:
                    await self._all([partial(self._pack, attempt, found)])
                found.is_closed = True
                self._plain.pop(attempt, None)
                self.lengths.pop(attempt, None)
                self.stir(attempt)
        await self._run(partial(self._drop_plain, attempt))

    async def expire(self, attempt: AttemptId) -> None:
        """Keep the beginning and the end of a closed log only; its offsets stay, a hole takes the middle."""
        found = await self._find(attempt)
        if isinstance(found, ClosedLog):
            await self._all([partial(shorten, found, self._may_go_on)])
            self._closed.pop(attempt, None)

    async def delete(self, attempt: AttemptId) -> None:
        """Take away a log that nothing refers to."""
        self._closed.pop(attempt, None)
        self._plain.pop(attempt, None)
        for suffix in SUFFIXES:
            await self._run(partial(self.path(attempt, suffix).unlink, missing_ok=True))

    def _pack(self, attempt: AttemptId, found: PlainLog) -> None:
        target = self.path(attempt, ".log.zst")
        pack(found.read, target, found.length, found.holes, self._may_go_on)

    def _drop_plain(self, attempt: AttemptId) -> None:
        path = self.path(attempt)
        if path.exists():
            sync(path.parent)  # first the closed log's name, then this
            path.unlink()

    def _may_go_on(self) -> bool:
        return not self._is_stopping

    # Finding

    async def _find(self, attempt: AttemptId) -> AnyLog:
        """The log, looked for on the disk and recovered at the first touch."""
        while True:
            if closed := self._closed.get(attempt):
                self._closed.move_to_end(attempt)
                return closed
            if (found := self._plain.get(attempt)) is None:
                found = self._plain[attempt] = PlainLog(self.path(attempt), self.path(attempt, ".rows"))
            if found.is_recovered:
                return found
            async with found.lock:
                await self._look(attempt, found)

    async def _look(self, attempt: AttemptId, found: PlainLog) -> None:
        if found.is_recovered or found.is_closed:  # by somebody who had the lock before
            return
        with full_disk_told():  # what a crash left is put on the disk once more, which may have no room
            closed, rows = (await self._all([partial(self._on_disk, attempt, found)]))[0]
        if closed is None:
            found.restore(rows)
            return
        found.is_closed = True
        del self._plain[attempt]
        self._closed[attempt] = closed
        if len(self._closed) > CLOSED_IN_MEMORY:
            self._closed.popitem(last=False)

    def _on_disk(self, attempt: AttemptId, found: PlainLog) -> tuple[ClosedLog | None, Sequence[Row]]:
        """A compressed log was verified before it got its name: it counts, and a plain one beside it is left over."""
        with suppress(FileNotFoundError):
            return ClosedLog.open(self.path(attempt, ".log.zst"), found.rows_path), ()
        return None, found.recover()

    # In threads

    async def _read(self, found: AnyLog, offset: int, count: int) -> bytes:
        if count <= 0:
            return b""
        at_once = found.read_at_once(offset, count)
        return at_once or await self._run(partial(found.read, offset, count))

    async def _ask(self, attempt: AttemptId, question: Callable[[AnyLog], T]) -> T:
        """`question` to the log, in a thread; asked anew when the log was closed meanwhile."""
        while True:
            found = await self._find(attempt)
            try:
                return await self._run(partial(question, found))
            except FileNotFoundError:
                if not _was_closed(found):
                    raise

    async def _run(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    async def _all(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run `jobs` side by side to their ends: nothing of them is under way any more when this is cancelled.

        The first error of any is raised.
        """
        loop = asyncio.get_running_loop()
        work = asyncio.gather(
            *(loop.run_in_executor(self._pool, job) for job in jobs), return_exceptions=True
        )
        try:
            results = await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({work})
            raise
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]


def _was_closed(found: AnyLog) -> bool:
    """It was plain when it was found: that its file is gone means to look again, and else an error."""
    return isinstance(found, PlainLog) and found.is_closed
