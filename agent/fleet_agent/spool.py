"""One attempt's log on this disk: what was printed, what the coordinator has of it, what is not here any more.

Offsets are the log's and never move. Parts of the file may have been given back to the disk: the file itself tells
which, so that no crash between a note and a deed can turn lost bytes into zeros that nobody printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from fleet_agent.disk import BLOCK_BYTES, data_after, hole_after, punch
from fleet_agent.durable import write_durably
from fleet_protocol.ids import AttemptId
from fleet_protocol.logs import MAX_CHUNK_BYTES, Hole

HEAD_BYTES = 1 << 20
"""Of what was not sent, how much of the beginning is given up last."""
TAIL_BYTES = 1 << 20
"""Never given back: why a trainer ended is what it printed last."""


class Spool:
    """Read, measured and freed by its agent alone; the trainer writes it."""

    def __init__(self, attempt: AttemptId, path: Path) -> None:
        self.attempt = attempt
        self._path = path
        self._file: int | None = None
        self._note = path.with_name(path.name + ".origin")
        self._origin = _number(self._note)
        """The log's offset of the file's first byte: above 0 once a trainer cut its log short."""
        self._size = 0
        self._acknowledged = 0
        self._freed = 0
        """Below it everything is given back that can be."""
        self.end = self._origin
        """The log's length as far as it is known."""
        self.durable: int | None = None
        """Bytes on the coordinator's disk; None until it told."""
        self.is_in_flight = False
        self.is_asked = False
        self.is_closed = False
        self.is_incomplete = False
        """Parts were given up that nobody has."""
        self.over = asyncio.Event()
        """Set when there is nothing left to send, or when no more of it is wanted."""
        self.look()

    # What was printed

    def look(self) -> bool:
        """Measure the log; True when something was printed since the last look."""
        size = self._size if self.is_closed else self._measure()
        if size == self._size:
            return False
        has_less = self.end > self._origin + self._size  # than the coordinator: cut while nobody looked
        if size < self._size or has_less:
            self._origin, self._freed = self.end, 0
            with contextlib.suppress(OSError):  # a full disk; the note is for a later agent
                write_durably(self._note, str(self._origin))
        self._size, self.end = size, self._origin + size
        return True

    def _measure(self) -> int:
        """Once open it stays so: a trainer may remove the file and print on."""
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR)
            except OSError:  # not begun, or removed while no agent was here
                return self._size
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Nothing is written any more: the log's length is final."""
        self.look()
        self.is_closed = True
        self._settle()

    def leave(self) -> None:
        """Let go of the file; nothing more is sent."""
        self.is_closed = True
        self.over.set()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # What was sent

    @property
    def has_more(self) -> bool:
        return self.durable is not None and self.durable < self.end and not self.over.is_set()

    def disconnect(self) -> None:
        self.durable, self.is_in_flight, self.is_asked = None, False, False

    def acknowledge(self, durable: int) -> None:
        self.durable, self.is_in_flight = durable, False
        self._acknowledged = max(self._acknowledged, durable)
        self.end = max(self.end, durable)
        self._settle()

    def _settle(self) -> None:
        """Where nothing was printed, nobody has to be asked."""
        if self.is_closed and (self.end == 0 or (self.durable is not None and self.durable >= self.end)):
            self.over.set()

    def take(self) -> bytes | Hole | None:
        """What comes after the durable bytes, now on its way; None while there is nothing or another one is."""
        self.look()  # a log that was cut short meanwhile must not be read as if it went on
        if self.durable is None or self.is_in_flight or not self.has_more:
            return None
        piece = self._piece(self.durable)
        self.is_in_flight = bool(piece)
        return piece or None

    def _piece(self, offset: int) -> bytes | Hole:
        start = offset - self._origin
        if start < 0:
            return self._hole(offset, -start)
        if self._file is None:
            return self._hole(offset, self.end - offset)
        data = data_after(self._file, start)
        missing = (self._size if data is None else min(data, self._size)) - start
        if missing == 0:
            hole = hole_after(self._file, start)
            return self._read(start, (hole if hole and hole > start else self._size) - start)
        there = self._read(start, missing)
        # File systems have told of holes where data was just written (OpenZFS did): zeros have to be seen too.
        return there if there.strip(b"\0") else self._hole(offset, missing)

    def _read(self, start: int, most: int) -> bytes:
        assert self._file is not None
        os.lseek(self._file, start, os.SEEK_SET)
        return os.read(self._file, min(most, self._size - start, MAX_CHUNK_BYTES))

    def _hole(self, offset: int, length: int) -> Hole:
        if offset < self._origin:
            why = "the trainer cut its log short"
        elif offset < self._acknowledged:
            why = "acknowledged before, and not kept by the worker since"
        else:
            why = "dropped by the worker for want of room on its disk"
        return Hole(attempt=self.attempt, offset=offset, length=length, why=why)

    # What is given back

    @property
    def allocated(self) -> int:
        """Bytes of this disk that the log takes."""
        return os.fstat(self._file).st_blocks * 512 if self._file is not None else 0

    def free_acknowledged(self, at_least: int) -> None:
        """Give back what the coordinator has, once that is `at_least` so many bytes. OSError where it cannot be."""
        start, end = self._freed, self._droppable_end(self._acknowledged - self._origin)
        if self._file is not None and end - start >= at_least:
            punch(self._file, start, end)
            self._freed = end

    def droppable_bytes(self, head: int) -> int:
        """How much may be given up although nobody has it: behind the first `head` bytes and before the tail."""
        start, end = self._droppable(head)
        return end - start

    def drop(self, head: int, at_least: int) -> None:
        """Give up the oldest of it, which becomes a hole. OSError where it cannot be."""
        start, end = self._droppable(head)
        if self._file is not None and start < end:
            punch(self._file, start, min(end, start + _up(at_least)))
            self.is_incomplete = True

    def _droppable(self, head: int) -> tuple[int, int]:
        end = self._droppable_end(self._size)
        if self._file is None:
            return end, end
        start = data_after(self._file, _up(head))
        return (end if start is None else min(start, end)), end

    def _droppable_end(self, wanted: int) -> int:
        """The last whole block below `wanted` that is not the tail's."""
        return max(0, min(wanted, self._size - TAIL_BYTES)) // BLOCK_BYTES * BLOCK_BYTES


def _up(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _number(note: Path) -> int:
    try:
        return int(note.read_text())
    except (OSError, ValueError):
        return 0
