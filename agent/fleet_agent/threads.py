"""Work on large files in a thread: it neither keeps the loop waiting nor goes on when nobody wants it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import IO, TypeVar

T = TypeVar("T")


class GivenUp(Exception):
    """Whoever wanted the result is gone."""


class Watched:
    """A stream whose reads and writes raise GivenUp once the work is not wanted any more."""

    def __init__(self, stream: IO[bytes], is_unwanted: threading.Event) -> None:
        self._stream = stream
        self._is_unwanted = is_unwanted

    def read(self, size: int = -1, /) -> bytes:
        self._look()
        return self._stream.read(size)

    def write(self, data: bytes, /) -> int:
        self._look()
        return self._stream.write(data)

    def _look(self) -> None:
        if self._is_unwanted.is_set():
            raise GivenUp


Watch = Callable[[IO[bytes]], Watched]


async def in_thread(work: Callable[[Watch], T]) -> T:
    """What `work` returns. Cancelled, it waits until the thread is done with the files: soon, where it watches them."""
    unwanted = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(work, lambda stream: Watched(stream, unwanted)))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        unwanted.set()
        await asyncio.wait([working])
        working.exception()  # looked at: it is most often GivenUp
        raise
