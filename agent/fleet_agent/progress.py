"""The one reader of the JSON lines that a trainer appends to FLEET_EVENTS: how far it is, its curves' points, its
checkpoints.

What is read depends on the file's bytes alone, never on when or in which pieces they came. So points have the same
numbers each time they are read, and an agent that takes a trainer up need not know what an earlier one has sent.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import JsonValue, ValidationError

from fleet_protocol.jobs import Progress
from fleet_protocol.metrics import MAX_SERIES, Point

log = structlog.get_logger()
BLOCK_BYTES = 256 * 1024
LINE_BYTES = 64 * 1024
NEEDED = {"progress": "step", "phase": "name", "metric": "name, step and value"}
FULL_POINTS = 20_000
"""Points that wait in memory; with more, they wait in the file."""


class TrainerEvents:
    """What one attempt's trainer told. A line that makes no sense is counted and never fatal."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self.first = 0
        """Number of the first of `points`; those before it are not kept."""
        self.complaint: str | None = None
        """What is wrong with the first line that was left out."""
        self.rewind()

    def rewind(self) -> None:
        """Read everything again."""
        self._offset, self._rest, self._is_overlong = 0, b"", False
        self._told = 0
        self._names: set[str] = set()
        self.points: list[Point] = []
        """Not sent yet, numbered on from `first`."""
        self.latest: Progress | None = None
        self.checkpoints = 0
        """How often the trainer said that it had written one."""
        self.bad_lines = 0

    @property
    def is_full(self) -> bool:
        return len(self.points) >= FULL_POINTS

    def poll(self) -> bool:
        """Read a block of what was appended; True when there was any."""
        block = self._read()
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > LINE_BYTES:
            self._rest, self._is_overlong = b"", True
        return bool(block)

    def finish(self) -> None:
        """Nothing is appended any more: what follows the last line's end is a line too."""
        if self._rest or self._is_overlong:
            self._take(self._rest)
            self._rest = b""

    def acknowledge(self, following: int) -> None:
        """Points below `following` are stored elsewhere. Fewer than was thought: they are read again."""
        if following < self.first:
            self.rewind()
        else:
            del self.points[: following - self.first]
        self.first = following

    def _read(self) -> bytes:
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._offset)
                block = file.read(BLOCK_BYTES)
        except OSError:  # not written to yet
            return b""
        self._offset += len(block)
        return block

    def _take(self, line: bytes) -> None:
        is_overlong, self._is_overlong = self._is_overlong or len(line) > LINE_BYTES, False
        try:
            if is_overlong:
                raise ValueError(f"a line of more than {LINE_BYTES} bytes")
            self._heed(json.loads(line))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            self._leave_out(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except (ValueError, RecursionError) as error:
            self._leave_out(str(error))

    def _heed(self, event: JsonValue) -> None:
        known = self.latest or Progress()
        match event:
            case {"type": "progress", "step": step, **more}:
                told = {"step": step, "total": more.get("total"), "phase": known.phase}
                self.latest = Progress.model_validate(told)
            case {"type": "phase", "name": name}:
                self.latest = Progress.model_validate({"phase": name})
            case {"type": "metric", "name": name, "step": step, "value": value, **more}:
                self._add(
                    Point.model_validate(
                        {
                            "name": name,
                            "step": step,
                            "value": _finite(value),
                            "at": more.get("at", self._now()),
                        }
                    )
                )
            case {"type": "checkpoint"}:
                self.checkpoints += 1
            case {"type": str(kind)} if kind not in NEEDED:
                pass  # of a newer helper, perhaps
            case {"type": str(kind)}:
                raise ValueError(f"a {kind} needs {NEEDED[kind]}")
            case _:
                raise ValueError('no object with a "type"')

    def _add(self, point: Point) -> None:
        if point.name not in self._names and len(self._names) >= MAX_SERIES:
            raise ValueError(
                f"more than {MAX_SERIES} names of metrics; a name must hold no step and no sample"
            )
        self._names.add(point.name)
        if self._told >= self.first:
            self.points.append(point)
        self._told += 1

    def _leave_out(self, why: str) -> None:
        self.bad_lines += 1
        if self.complaint is None:
            self.complaint = why


def _finite(value: JsonValue) -> JsonValue:
    """A loss that is no number any more is told as none: JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
