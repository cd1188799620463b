"""What was acknowledged is there after any number of crashes, and nothing else is."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_protocol.ids import AttemptId
from fleet_server.errors import LogClosed, LogDiverged, LogGap, StorageFull
from fleet_server.logs.sidecar import ROW_BYTES, Kind, Row, holes_of, parsed, read_rows
from fleet_server.logs.store import THREADS, LogStore
from tests.server.coordinator import FakeClock

ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000000")


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path, FakeClock())


def rows_of(store: LogStore) -> Path:
    return store.path(ATTEMPT, ".rows")


async def test_each_batch_and_hole_has_a_row(tmp_path: Path):
    clock = FakeClock()
    store = LogStore(tmp_path, clock)
    await store.append(ATTEMPT, 0, b"abc")
    clock.advance(1.5)
    await store.append_hole(ATTEMPT, 3, 4)
    await store.append_hole(ATTEMPT, 3, 4)
    clock.advance(-60)
    await store.append(ATTEMPT, 7, b"de")
    first, hole, last = read_rows(rows_of(store))
    assert [row.end for row in (first, hole, last)] == [3, 7, 9]
    assert (first.kind, hole.kind) == (Kind.DATA, Kind.LOST)
    assert (hole.at_ms - first.at_ms, last.at_ms) == (1500, hole.at_ms), "no row is older than the one before"
    assert await store.read(ATTEMPT, 0, 99) == b"abc\0\0\0\0de"
    assert await store.holes(ATTEMPT) == [(3, 7, Kind.LOST)]


async def test_a_hole_over_bytes_that_are_here_takes_none_of_them(store: LogStore):
    await store.append(ATTEMPT, 0, b"abcdef")
    assert await store.append_hole(ATTEMPT, 2, 3) == 6
    assert await store.append_hole(ATTEMPT, 4, 4) == 8
    assert await store.read(ATTEMPT, 0, 99) == b"abcdef\0\0"
    with pytest.raises(LogGap):
        await store.append_hole(ATTEMPT, 9, 1)
    with pytest.raises(LogDiverged):
        await store.append(ATTEMPT, 6, b"xyz")


async def test_bytes_without_a_row_are_cut_off(store: LogStore, tmp_path: Path):
    await store.append(ATTEMPT, 0, b"abc")
    with store.path(ATTEMPT).open("ab") as file:
        file.write(b"never acknowledged")
    again = LogStore(tmp_path, FakeClock())
    assert await again.durable(ATTEMPT) == 3
    assert store.path(ATTEMPT).read_bytes() == b"abc"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log, rows: os.truncate(log, 4),
        lambda log, rows: log.write_bytes(b"abc" + b"xyz"),
        lambda log, rows: os.truncate(rows, 2 * ROW_BYTES - 1),
        lambda log, rows: rows.write_bytes(rows.read_bytes()[:ROW_BYTES] + bytes(ROW_BYTES)),
    ],
)
async def test_a_last_batch_that_is_not_whole_never_was(
    store: LogStore, tmp_path: Path, spoil: Callable[[Path, Path], object]
):
    await store.append(ATTEMPT, 0, b"abc")
    await store.append(ATTEMPT, 3, b"def")
    spoil(store.path(ATTEMPT), rows_of(store))
    again = LogStore(tmp_path, FakeClock())
    assert await again.durable(ATTEMPT) == 3
    assert await again.append(ATTEMPT, 3, b"other") == 8
    assert await again.read(ATTEMPT, 0, 99) == b"abcother"
    assert rows_of(store).stat().st_size == 2 * ROW_BYTES


async def test_a_last_hole_is_empty_whatever_a_failed_write_left_there(store: LogStore, tmp_path: Path):
    await store.append(ATTEMPT, 0, b"abc")
    await store.append_hole(ATTEMPT, 3, 4)
    store.path(ATTEMPT).write_bytes(b"abcdefghi")
    assert await LogStore(tmp_path, FakeClock()).read(ATTEMPT, 0, 99) == b"abc" + bytes(4)


async def test_a_log_whose_sidecar_is_gone_stands_as_it_is(store: LogStore, tmp_path: Path):
    await store.append(ATTEMPT, 0, b"abc")
    rows_of(store).unlink()
    again = LogStore(tmp_path, FakeClock())
    assert await again.append(ATTEMPT, 3, b"d") == 4
    assert [row.end for row in read_rows(rows_of(store))] == [3, 4]


def test_rows_end_at_the_first_that_does_not_go_on():
    good = [Row(3, 1, Kind.DATA), Row(5, 2, Kind.LOST), Row(9, 3, Kind.EXPIRED), Row(12, 3, Kind.EXPIRED)]
    raw = b"".join(row.packed() for row in good)
    assert list(parsed(raw)) == good
    assert list(parsed(raw + Row(12, 4, Kind.DATA).packed())) == good
    assert list(parsed(raw + b"x" * (ROW_BYTES - 1))) == good
    assert holes_of(good) == [(3, 5, Kind.LOST), (5, 12, Kind.EXPIRED)]


PIECES = st.tuples(st.integers(0, 40), st.integers(0, 12))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "hole", "other"]), PIECES),
        st.tuples(st.sampled_from(["restart", "cut log", "cut rows", "garbage", "close"]), PIECES),
    ),
    max_size=25,
)


class Model:
    """What must be readable: the agent's bytes as far as they were acknowledged, zeros where it lost them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, FakeClock()
        self.spool = random.Random(7).randbytes(100)
        self.known, self.batches = b"", [0]
        self.is_closed = False
        self.store = LogStore(folder, self.clock)

    async def step(self, what: str, at: int, size: int) -> None:
        self.clock.advance(size - 2)
        if what in ("append", "hole", "other"):
            await self.bring(what, at, size)
        elif what == "close":
            await self.store.close(ATTEMPT)
            self.is_closed = bool(self.known)
        else:
            self.crash(what, size)
        assert await self.store.durable(ATTEMPT) == len(self.known)
        assert await self.store.read(ATTEMPT, 0, 1000) == self.known
        if not self.is_closed and self.known:
            assert self.store.path(ATTEMPT).stat().st_size == len(self.known)

    async def bring(self, what: str, at: int, size: int) -> None:
        start = max(0, len(self.known) - at % 5 + (at % 7 == 0))
        data = self.spool[start : start + size]
        old = self.known[start : start + len(data)]
        if what == "other":
            data = bytes(byte ^ 1 for byte in data)
        new = self.known[start + len(old) :] == b"" and len(data) > len(old)
        try:
            if what == "hole":
                done = await self.store.append_hole(ATTEMPT, start, len(data)) if data else len(self.known)
            else:
                done = await self.store.append(ATTEMPT, start, data)
        except LogGap:
            assert start > len(self.known)
        except LogDiverged:
            assert start <= len(self.known)
            assert data[: len(old)] != old
        except LogClosed:
            assert self.is_closed
            assert new
        else:
            assert what == "hole" or data[: len(old)] == old
            if new:
                self.known += bytes(len(data) - len(old)) if what == "hole" else data[len(old) :]
                self.batches.append(len(self.known))
            assert done == len(self.known)

    def crash(self, what: str, size: int) -> None:
        """A torn end is of the last batch, which nobody had an answer for; or of bytes that were on their way."""
        log, rows = self.store.path(ATTEMPT), self.store.path(ATTEMPT, ".rows")
        if not self.is_closed and self.known:
            torn = what == "cut rows" and size > 0
            if what == "cut log" and size and self.known[-1:] != b"\0":
                os.truncate(log, max(self.batches[-2], len(self.known) - size))
                torn = True
            elif what == "cut rows":
                os.truncate(rows, rows.stat().st_size - size)
            elif what == "garbage":
                for path in (log, rows):
                    with path.open("ab") as file:
                        file.write(self.spool[:size])
            if torn:
                self.batches.pop()
                self.known = self.known[: self.batches[-1]]
        self.store = LogStore(self.folder, self.clock)


@settings(deadline=None, max_examples=150)
@given(steps=STEPS)
def test_any_history_with_crashes_gives_what_was_acknowledged(steps: list[tuple[str, tuple[int, int]]]):
    async def live() -> None:
        with tempfile.TemporaryDirectory() as folder:
            model = Model(Path(folder))
            for what, (at, size) in steps:
                await model.step(what, at, size)

    asyncio.run(live())


async def test_a_disk_that_fails_gives_no_false_acknowledgement(store: LogStore, tmp_path: Path):
    await store.append(ATTEMPT, 0, b"abc")
    for path in (
        store.path(ATTEMPT),
        rows_of(store),
    ):  # what fails the write of the bytes, and that of the row
        hidden = path.with_suffix(".hidden")
        path.rename(hidden)
        with pytest.raises(OSError, match="No such file"):
            await store.append(ATTEMPT, 3, b"def")
        assert await store.durable(ATTEMPT) == 3
        hidden.rename(path)
    assert await store.append(ATTEMPT, 3, b"d") == 4
    again = LogStore(tmp_path, FakeClock())
    assert await again.read(ATTEMPT, 0, 99) == b"abcd"


@pytest.mark.parametrize("suffix", [".log", ".rows"])
async def test_a_full_disk_takes_nothing_and_goes_on_when_there_is_room(store: LogStore, suffix: str):
    await store.append(ATTEMPT, 0, b"abc")
    path = store.path(ATTEMPT, suffix)
    kept = path.rename(path.with_suffix(".kept"))
    path.symlink_to("/dev/full")
    for _ in range(2):
        with pytest.raises(StorageFull) as error:
            await store.append(ATTEMPT, 3, b"def")
        assert error.value.current == {"durable": 3}
    assert await store.durable(ATTEMPT) == 3
    kept.rename(path)
    assert await store.append(ATTEMPT, 3, b"def") == 6
    assert await store.read(ATTEMPT, 0, 9) == b"abcdef"


async def test_below_the_reserve_nothing_is_taken(tmp_path: Path):
    store = LogStore(tmp_path, FakeClock(), reserve_bytes=1 << 60)
    with pytest.raises(StorageFull) as error:
        await store.append(ATTEMPT, 0, b"abc")
    assert error.value.current == {"durable": 0}
    assert await store.durable(ATTEMPT) == 0
    store.reserve_bytes = 0
    assert await store.append(ATTEMPT, 0, b"abc") == 3


async def test_who_goes_away_leaves_no_write_under_way(store: LogStore, tmp_path: Path):
    """Or the next append would meet it, and the row of the one be about the bytes of the other."""
    await store.append(ATTEMPT, 0, b"abc")
    go_on = threading.Event()
    for _ in range(THREADS):
        store._pool.submit(go_on.wait)
    writing = asyncio.ensure_future(store.append(ATTEMPT, 3, b"def"))
    next_one = asyncio.ensure_future(store.append(ATTEMPT, 3, b"defghi"))
    for cancelled in (False, True, True):
        if cancelled:
            writing.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not writing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await next_one == 9
    assert await LogStore(tmp_path, FakeClock()).read(ATTEMPT, 0, 99) == b"abcdefghi"


APPENDER = """
import asyncio, sys
from pathlib import Path
from fleet_server.clock import SteadyClock
from fleet_server.logs.store import THREADS, LogStore
attempts = ["%08d-0000-4000-8000-000000000000" % number for number in range(4)]

async def write(store, attempt):
    at = await store.durable(attempt)
    while True:
        size = 1 + (at * 7919) % 50_000
        data = b"".join(b"%09d\\n" % line for line in range(at // 10, (at + size) // 10 + 1))[at % 10 :][:size]
        at = await store.append(attempt, at, data)
        print(attempt[:8], at, flush=True)

async def main():
    store = LogStore(Path(sys.argv[1]), SteadyClock())
    await asyncio.gather(*(write(store, attempt) for attempt in attempts))

asyncio.run(main())
"""


def _killed(folder: Path, lines: int) -> list[tuple[AttemptId, int]]:
    """Run an appender until it has acknowledged so often, kill it; all that it acknowledged."""
    appender = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert appender.stdout is not None
    with appender.stdout as said:
        heard = [said.readline() for _ in range(lines)]
        appender.send_signal(signal.SIGKILL)
        heard += said.readlines()
    appender.wait()
    words = [line.split() for line in heard if line.endswith("\n")]
    return [(AttemptId(f"{name}-0000-4000-8000-000000000000"), int(at)) for name, at in words]


async def test_no_acknowledged_byte_is_lost_to_sigkill(tmp_path: Path):
    luck = random.Random(1)
    acknowledged: dict[AttemptId, int] = {}
    for _ in range(8):
        for attempt, length in _killed(tmp_path, luck.randrange(3, 40)):
            assert length > acknowledged.get(attempt, 0), "the length never goes back"
            acknowledged[attempt] = length
        store = LogStore(tmp_path, FakeClock())
        for attempt, length in acknowledged.items():
            assert await store.durable(attempt) >= length
            whole = store.path(attempt).read_bytes()
            assert whole == b"".join(b"%09d\n" % line for line in range(len(whole) // 10 + 1))[: len(whole)]
