"""Work on large files in a thread: it neither keeps the loop waiting nor goes on when nobody wants it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class GivenUp(Exception):
    """Whoever wanted the result is gone."""


class Stream(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...

    def write(self, data: bytes, /) -> int: ...


class Watched:
    """A stream whose reads and writes call `moves`, and raise GivenUp once the work is not wanted any more."""

    def __init__(self, stream: Stream, is_unwanted: threading.Event, moves: Callable[[], None]) -> None:
        self._stream = stream
        self._is_unwanted = is_unwanted
        self._moves = moves

    def read(self, size: int = -1, /) -> bytes:
        self._look()
        return self._stream.read(size)

    def write(self, data: bytes, /) -> int:
        self._look()
        return self._stream.write(data)

    def _look(self) -> None:
        if self._is_unwanted.is_set():
            raise GivenUp
        self._moves()


Watch = Callable[[Stream], Watched]


def _nothing() -> None:
    pass


async def in_thread(work: Callable[[Watch], T], moves: Callable[[], None] = _nothing) -> T:
    """What `work` returns. Cancelled, it waits until the thread is done with the files: soon, where it watches them."""
    unwanted = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(work, lambda stream: Watched(stream, unwanted, moves)))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        unwanted.set()
        await asyncio.wait([working])
        working.exception()  # looked at: it is most often GivenUp
        raise
