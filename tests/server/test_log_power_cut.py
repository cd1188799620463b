"""A power cut takes what the disk was not made to keep: no acknowledged byte is among it, and none is made up."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from errno import EIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from fleet_protocol.ids import AttemptId
from fleet_server import durable
from fleet_server.logs import plain
from fleet_server.logs.store import LogStore
from tests.server.coordinator import FakeClock

ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000000")
T = TypeVar("T")
SPOOL = bytes(random.Random(7).choices(range(1, 256), k=300))  # no zeros: where one is read, there is a hole


class Killed(Exception):
    """The process ends here."""


class Change(NamedTuple):
    """Bytes written at `offset`; None: the file was made to end there."""

    offset: int
    data: bytes | None
    is_sure: bool = False
    is_given_up: bool = False
    """A sync failed: the system holds these bytes for written by now, and never tries again."""


@dataclass(slots=True)
class File:
    """What was on the disk at first, and what was done since."""

    content: bytes = b""
    changes: list[Change] = field(default_factory=list)

    def synced(self) -> None:
        self.changes = [change._replace(is_sure=not change.is_given_up) for change in self.changes]

    def given_up(self) -> None:
        self.changes = [
            change if change.is_sure or change.data is None else change._replace(is_given_up=True)
            for change in self.changes
        ]

    def after_a_cut(self, luck: random.Random) -> bytes:
        """One of the contents that the disk may have: of a change that is not sure, all, a part or nothing."""
        found = bytearray(self.content)
        for offset, data, is_sure, _ in self.changes:
            if data is None:
                if is_sure or luck.random() < 0.5:
                    found = found[:offset].ljust(offset, b"\0")
                continue
            start, end, length = (0, len(data), len(data)) if is_sure else _part(len(data), luck)
            if length:
                found = found.ljust(offset + length, b"\0")
                found[offset + start : offset + end] = data[start:end]
        return bytes(found)


def _part(size: int, luck: random.Random) -> tuple[int, int, int]:
    """From where to where a write arrived, and how long it made the file; in between is what was there, or zeros."""
    cut = luck.randint(0, size)
    return luck.choice([(0, 0, 0), (0, size, size), (0, cut, cut), (cut, size, size), (0, 0, size)])


Faults = Mapping[str, tuple[int, type[Exception]]]
"""By a file's suffix ('' is a folder): at which of the next calls that change it what is raised."""


class Disk:
    """Stands for `os`: does as it is told and notes it, but syncs nothing; fails and kills where a test says."""

    def __init__(self) -> None:
        self.files: dict[Path, File] = {}
        self.unsure: list[Path] = []
        """New names that a cut may take, in the order in which they were made."""
        self.sure: set[Path] = set()
        self.faults: dict[str, tuple[int, type[Exception]]] = {}
        self._open: dict[int, Path] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        is_new = bool(flags & os.O_CREAT) and not path.exists()
        descriptor = os.open(path, flags, mode)
        self._open[descriptor] = path
        if is_new:
            self.files[path] = File()
            self.unsure += [
                name for name in (path.parent, path) if name not in self.sure and name not in self.unsure
            ]
        return descriptor

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        fault = self._fault(descriptor)
        data = data[: len(data) // 2] if fault else data
        self._file(descriptor).changes.append(Change(offset, bytes(data)))
        written = os.pwrite(descriptor, data, offset)
        if fault:
            raise fault
        return written

    def ftruncate(self, descriptor: int, length: int) -> None:
        if fault := self._fault(descriptor):
            raise fault
        self._file(descriptor).changes.append(Change(length, None))
        os.ftruncate(descriptor, length)

    def fdatasync(self, descriptor: int) -> None:
        if fault := self._fault(descriptor):
            self._file(descriptor).given_up()
            raise fault
        self._file(descriptor).synced()

    def fsync(self, descriptor: int) -> None:
        if fault := self._fault(descriptor):
            raise fault
        kept = {name for name in self.unsure if name.parent == self._open[descriptor]}
        self.sure |= kept
        self.unsure = [name for name in self.unsure if name not in kept]

    def _file(self, descriptor: int) -> File:
        return self.files[self._open[descriptor]]

    def _fault(self, descriptor: int) -> Exception | None:
        """What to raise, when its turn has come."""
        suffix = self._open[descriptor].suffix
        left, kind = self.faults.pop(suffix, (0, None))
        if kind and left:
            self.faults[suffix] = (left - 1, kind)
        return kind(EIO, "the disk says no") if kind and not left else None

    def cut(self, luck: random.Random) -> None:
        """The power goes, and comes again: what may be left is what there is."""
        kept = luck.randint(0, len(self.unsure))
        self.sure |= set(self.unsure[:kept])
        self.unsure = []
        for path in [*self.files]:
            if path.parent not in self.sure:
                shutil.rmtree(path.parent, ignore_errors=True)
            if not {path, path.parent} <= self.sure:
                path.unlink(missing_ok=True)
                del self.files[path]
            else:
                self.files[path] = File(self.files[path].after_a_cut(luck))
                path.write_bytes(self.files[path].content)


class AtOnce(Executor):
    """No threads, so that a seed is one history; what may be lost does not depend on their order."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except (Killed, OSError) as error:
            done.set_exception(error)
        return done


def _opened(folder: Path) -> LogStore:
    store = LogStore(folder, FakeClock())
    store._pool = AtOnce()  # type: ignore[assignment]  # it wants no more than `submit`
    return store


class Life:
    """A log on such a disk: what of it was acknowledged, and what else the agent sent."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder, self.disk = folder, disk
        self.store = _opened(folder)
        self.known, self.sent = b"", [b""]
        self.seen: Counter[str] = Counter()

    async def bring(self, *, is_hole: bool, size: int, faults: Faults) -> bool:
        """Whether the coordinator lives on."""
        at = len(self.known)
        data = bytes(size) if is_hole else SPOOL[at : at + size]
        self.sent.append(data)
        self.disk.faults = dict(faults)
        try:
            call = self.store.append_hole(ATTEMPT, at, size) if is_hole else None
            await (call or self.store.append(ATTEMPT, at, data))
        except Killed:
            self.seen["killed"] += 1
            return False
        except OSError:
            self.seen["failed"] += 1
            assert await self.store.durable(ATTEMPT) == at
        else:
            self._acknowledged(data)
        self.disk.faults = {}
        return True

    async def start(self, faults: Faults) -> bool:
        """A new process tells the agent how far it got, and stands by that. Whether it got so far."""
        self.store = _opened(self.folder)
        self.disk.faults = dict(faults)
        try:
            length = await self.store.durable(ATTEMPT)
        except (Killed, OSError):
            self.seen["not recovered"] += 1
            return False
        self.disk.faults = {}
        found = await self.store.read(ATTEMPT, 0, 1000)
        assert len(found) == length
        assert found[: len(self.known)] == self.known, "an acknowledged byte is lost"
        more = found[len(self.known) :]
        assert more in self.sent, "bytes that nobody sent"
        holes = {at for hole in await self.store.holes(ATTEMPT) for at in range(hole.start, hole.end)}
        assert {at for at, byte in enumerate(found) if byte == 0} == holes, "zeros pass for bytes"
        self.seen["more than acknowledged" if more else "as acknowledged"] += 1
        self._acknowledged(more)
        return True

    def _acknowledged(self, data: bytes) -> None:
        self.known += data
        self.sent = [b""]


def _faults(luck: random.Random) -> Faults:
    struck = [suffix for suffix in (".log", ".rows", "") if luck.random() < 0.2]
    return {suffix: (luck.randrange(4), luck.choice([Killed, OSError])) for suffix in struck}


async def _live(folder: Path, disk: Disk, luck: random.Random) -> Counter[str]:
    life = Life(folder, disk)
    for _ in range(luck.randint(1, 8)):
        lives = await life.bring(is_hole=luck.random() < 0.3, size=luck.randint(1, 9), faults=_faults(luck))
        while not lives or luck.random() < 0.3:
            if luck.random() < 0.7:
                disk.cut(luck)
                life.seen["cut"] += 1
            lives = await life.start(_faults(luck))
    return life.seen


def test_what_was_acknowledged_outlives_any_power_cut(monkeypatch: pytest.MonkeyPatch):
    seen: Counter[str] = Counter()

    async def live_all() -> None:
        for seed in range(SEEDS):
            with tempfile.TemporaryDirectory() as folder:
                disk = Disk()
                for module in (plain, durable):
                    monkeypatch.setattr(module, "os", disk)
                try:
                    seen.update(await _live(Path(folder), disk, random.Random(seed)))
                except AssertionError as error:
                    error.add_note(f"seed {seed}")
                    raise

    asyncio.run(live_all())
    paths = {"cut", "killed", "failed", "not recovered", "as acknowledged", "more than acknowledged"}
    assert all(seen[path] >= SEEDS // 20 for path in paths), seen


SEEDS = 250
