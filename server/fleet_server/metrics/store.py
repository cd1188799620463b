"""One file of JSON lines per attempt: the points that its trainer told, in their order, each once.

The append rule of the logs with points as unit: at N points stored, a batch that begins at N is appended, of one that
begins below only the rest is, one that begins above is refused with N. Acknowledged means on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet_protocol.ids import AttemptId
from fleet_protocol.metrics import MAX_READ_POINTS, MAX_SERIES, Point, Reading
from fleet_server.content import full_disk_told
from fleet_server.errors import MetricsGap, TooManySeries
from fleet_server.metrics.curves import KEPT, Curve

BLOCK_BYTES = 1024 * 1024
REMEMBERED = 1000
"""Attempts whose count is in memory; that of another one is counted again."""
READ_AGAIN = 16
"""Attempts whose curves are in memory as they were last read."""
NAME = re.compile(rb'^\{"name":("(?:[^"\\]|\\.)*")', re.MULTILINE)


@dataclass(slots=True)
class Series:
    """What is known of one attempt's file."""

    path: Path
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    points: int = -1
    """-1 until the file was looked at."""
    length: int = 0
    names: set[str] = field(default_factory=set)


class MetricStore:
    """The folder of metrics of one coordinator; only it writes there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._series: OrderedDict[AttemptId, Series] = OrderedDict()
        self._readings: OrderedDict[AttemptId, CurveReading] = OrderedDict()
        """The last ones, which the next of the same attempts go on from."""
        self.counts: dict[AttemptId, int] = {}
        """Points of the attempts that told some since the start."""

    def path(self, attempt: AttemptId) -> Path:
        return self._folder / attempt[:2] / f"{attempt}.jsonl"

    async def append(self, attempt: AttemptId, first: int, points: Sequence[Point]) -> int:
        """Apply the append rule; the number of the next point. MetricsGap, TooManySeries, StorageFull: none taken."""
        series = self._of(attempt)
        async with series.lock:
            await _opened(series)
            if first > series.points:
                raise MetricsGap(
                    f"{series.points} points are here; go on from there.", current={"next": series.points}
                )
            fresh = points[series.points - first :]
            names = {point.name for point in fresh} - series.names
            if len(series.names) + len(names) > MAX_SERIES:
                raise TooManySeries
            if fresh:
                lines = b"".join(point.model_dump_json().encode() + b"\n" for point in fresh)
                await asyncio.to_thread(_append, series.path, series.length, lines)
                series.names |= names
                series.length += len(lines)
                series.points += len(fresh)
                self.counts[attempt] = series.points
            return series.points

    async def read(self, attempt: AttemptId, limit: int) -> tuple[dict[str, tuple[Reading, ...]], int]:
        """Every curve in at most `limit` points, fewer where there are many curves; and how many points there are."""
        series = self._of(attempt)
        async with series.lock:
            await _opened(series)
            share = max(min(limit, MAX_READ_POINTS // max(len(series.names), 1)), KEPT)
            reading = self._readings.pop(attempt, None)
            if reading is None or reading.limit != share:
                reading = CurveReading(share)
            await asyncio.to_thread(reading.go_on, series.path, series.length)
            self._readings[attempt] = reading
            if len(self._readings) > READ_AGAIN:
                self._readings.popitem(last=False)
            return reading.curves(), series.points

    def _of(self, attempt: AttemptId) -> Series:
        series = self._series.setdefault(attempt, Series(self.path(attempt)))
        self._series.move_to_end(attempt)
        while len(self._series) > REMEMBERED and not next(iter(self._series.values())).lock.locked():
            self._series.popitem(last=False)
        return series


class CurveReading:
    """Curves as far as the file was read, so that who looks again and again has only what is new read."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._offset = 0
        self._curves: dict[str, Curve] = {}

    def go_on(self, path: Path, length: int) -> None:
        for lines in _blocks(path, self._offset, length):
            for name, point in _parsed(lines):
                curve = self._curves.get(name)
                if curve is None:
                    curve = self._curves[name] = Curve(self.limit)
                curve.add(point)
        self._offset = length

    def curves(self) -> dict[str, tuple[Reading, ...]]:
        return {name: curve.points() for name, curve in self._curves.items()}


async def _opened(series: Series) -> None:
    """Look at the file once: how many points it holds, of which curves. Half a line at its end is cut off."""
    if series.points < 0:
        names: set[bytes] = set()
        points = length = 0
        size = series.path.stat().st_size if series.path.exists() else 0

        def look() -> None:
            nonlocal points, length
            for lines in _blocks(series.path, 0, size):
                names.update(NAME.findall(lines))
                points, length = points + lines.count(b"\n"), length + len(lines)
            if length < size:
                os.truncate(series.path, length)

        await asyncio.to_thread(look)
        series.names = {json.loads(name) for name in names}
        series.points, series.length = points, length


def _blocks(path: Path, offset: int, end: int) -> Iterator[bytes]:
    """Whole lines between two offsets, about a mebibyte at once; what has no line's end is left out."""
    if offset >= end:
        return
    rest = b""
    with path.open("rb") as file:
        file.seek(offset)
        while offset < end and (block := file.read(min(BLOCK_BYTES, end - offset))):
            offset += len(block)
            lines, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield lines + newline


def _parsed(lines: bytes) -> Iterator[tuple[str, Reading]]:
    """Each line's curve and point, parsed at once: one by one takes twice as long. A damaged line is passed over."""
    try:
        points = json.loads(b"[" + lines.rstrip(b"\n").replace(b"\n", b",") + b"]")
        yield from ((one["name"], (one["step"], one["value"], one["at"])) for one in points)
    except (ValueError, KeyError, TypeError):
        for line in lines.splitlines():
            with contextlib.suppress(ValueError):
                one = Point.model_validate_json(line)
                yield one.name, (one.step, one.value, one.at)


@full_disk_told()
def _append(path: Path, length: int, lines: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        written = 0
        while written < len(lines):
            written += os.pwrite(descriptor, lines[written:], length + written)
        os.fdatasync(descriptor)
    except OSError:
        os.ftruncate(descriptor, length)  # what was not acknowledged was never there
        raise
    finally:
        os.close(descriptor)
