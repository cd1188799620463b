"""Follows the JSON lines that a trainer appends to FLEET_EVENTS, for the progress that heartbeats carry."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from fleet_protocol.jobs import Progress

BLOCK_BYTES = 1 << 20
LINE_BYTES = 64 * 1024


class ProgressTail:
    """The latest progress of one attempt. A line that makes no sense is counted and never fatal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self.latest: Progress | None = None
        self.bad_lines = 0

    def poll(self) -> bool:
        """Read what was appended; True when there is new progress in it."""
        before = self.latest
        while block := self._read():
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                self._take(line)
            if len(self._rest) > LINE_BYTES:
                self._rest, self.bad_lines = b"", self.bad_lines + 1
        return self.latest != before

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                block = file.read(BLOCK_BYTES)
        except OSError:  # not written to yet
            return b""
        self._offset += len(block)
        return block

    def _take(self, line: bytes) -> None:
        known = self.latest or Progress()
        try:
            match json.loads(line):
                case {"type": "progress", "step": step, **more}:
                    self.latest = Progress.model_validate(
                        {"step": step, "total": more.get("total"), "phase": known.phase}
                    )
                case {"type": "phase", "name": name}:
                    self.latest = Progress(phase=name)
                case {"type": str()}:
                    pass  # curves and checkpoints are somebody else's
                case _:
                    self.bad_lines += 1
        except (ValueError, ValidationError):
            self.bad_lines += 1
