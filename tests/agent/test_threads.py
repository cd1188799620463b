from __future__ import annotations

import asyncio
import io
import threading

import pytest

from fleet_agent.threads import GivenUp, Watch, in_thread


async def test_work_is_done_in_another_thread() -> None:
    moves: list[int] = []

    def work(watch: Watch) -> tuple[bytes, int]:
        stream = watch(io.BytesIO(b"abc"))
        return stream.read(2) + stream.read(), threading.get_ident()

    data, where = await in_thread(work, lambda: moves.append(1))
    assert (data, moves) == (b"abc", [1, 1])
    assert where != threading.get_ident()


async def test_who_is_cancelled_leaves_no_thread_behind() -> None:
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(watch: Watch) -> None:
        stream = watch(io.BytesIO())
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                stream.write(b"x")
        except GivenUp:
            ended.set()
            raise

    working = asyncio.create_task(in_thread(work))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended.is_set()


async def test_an_error_of_the_work_is_the_callers() -> None:
    def work(_: Watch) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        await in_thread(work)
