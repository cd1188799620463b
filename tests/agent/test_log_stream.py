"""The log's way over real websockets and real HTTP, with connections that break: bytes must come out equal."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_agent.log_stream import LogStream
from fleet_agent.spool import Spool
from fleet_agent.spools import SpoolDisk, Spools
from fleet_agent.uplink import Uplink
from fleet_protocol.errors import Code, Problem
from fleet_protocol.ids import AttemptId, new_attempt_id, new_worker_id
from fleet_protocol.logs import MAX_CHUNK_BYTES, StreamHello
from tests.agent.conftest import QUICK, until
from tests.agent.coordinator import TOKEN, Coordinator

BUDGET = 16 << 20
BYTES = random.Random(1).randbytes(3 * MAX_CHUNK_BYTES + 17)


class Streaming:
    """A running log stream; what the coordinator pushes is kept in `stops`."""

    def __init__(self, coordinator: Coordinator, folder: Path) -> None:
        self.uplink = Uplink(coordinator.url, lambda: TOKEN, retry_ceiling=0.05)
        self.stops: list[tuple[AttemptId, str]] = []
        hello = StreamHello(worker=new_worker_id(), incarnation=new_worker_id())
        self.spools = Spools(SpoolDisk(folder, BUDGET), QUICK)
        self.stream = LogStream(
            self.uplink,
            hello,
            QUICK,
            self.spools,
            on_stop=lambda *word: self.stops.append(word),
            on_wake=lambda: None,
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.spools.run())
            group.create_task(self.stream.run())


@pytest.fixture
async def streaming(coordinator: Coordinator, tmp_path: Path) -> AsyncIterator[Streaming]:
    made = Streaming(coordinator, tmp_path)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await made.uplink.close()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def has_all(coordinator: Coordinator, spool: Spool, data: bytes = BYTES) -> None:
    await coordinator.until(lambda: len(coordinator.logs[spool.attempt]) >= len(data))
    assert coordinator.logs[spool.attempt] == data


async def test_what_is_printed_arrives_while_it_is_printed(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    await coordinator.told("stream")
    begin = 0
    for end in (5, 2 * MAX_CHUNK_BYTES, len(BYTES)):
        append(tmp_path / "log", BYTES[begin:end])
        await has_all(coordinator, spool, BYTES[:end])
        begin = end
    assert not spool.over.is_set()
    assert coordinator.received_bytes == len(BYTES)
    streaming.spools.close(spool)
    await spool.over.wait()


async def test_many_cut_connections_lose_and_repeat_nothing(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    """Each cut comes after the bytes were stored and before they were acknowledged: the worst moment."""
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    size = 0
    for piece in range(0, len(BYTES), 100_000):
        coordinator.cut_after_frames = 1
        append(tmp_path / "log", BYTES[piece : piece + 100_000])
        size = min(len(BYTES), piece + 100_000)
        await has_all(coordinator, spool, BYTES[:size])
    streaming.spools.close(spool)
    await spool.over.wait()
    assert len(coordinator.of("stream")) > 3


async def test_a_coordinator_that_comes_back_says_where_to_go_on(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    """It lost the end of a log, as after a restored backup: the agent sends that part again."""
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    append(tmp_path / "log", BYTES)
    await has_all(coordinator, spool)
    await coordinator.stop()
    del coordinator.logs[spool.attempt][1000:]
    await coordinator.start()
    await has_all(coordinator, spool)


async def test_several_logs_share_one_connection(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    spools = []
    for number in range(5):
        append(tmp_path / str(number), BYTES[number * 1000 :])
        spools.append(streaming.spools.follow(new_attempt_id(), tmp_path / str(number)))
    for number, spool in enumerate(spools):
        await has_all(coordinator, spool, BYTES[number * 1000 :])
    assert len(coordinator.of("stream")) == 1


async def test_without_websockets_the_log_goes_by_patch(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.has_websocket = False
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    append(tmp_path / "log", BYTES)
    await has_all(coordinator, spool)
    del coordinator.logs[spool.attempt][10:]  # the next PATCH is refused with the true length
    append(tmp_path / "log", b"more")
    await has_all(coordinator, spool, BYTES + b"more")
    streaming.spools.close(spool)
    await spool.over.wait()
    assert coordinator.of("stream") == []


async def test_a_log_whose_bytes_differ_there_ends_its_sending(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.has_websocket = False
    coordinator.problems["log"] = [Problem(title="no", status=409, detail="no", code=Code.LOG_DIVERGED)]
    append(tmp_path / "log", BYTES)
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    await spool.over.wait()
    assert coordinator.logs[spool.attempt] == b""


async def test_a_log_that_is_not_wanted_is_sent_no_further(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    attempt = new_attempt_id()
    coordinator.unwanted.add(attempt)
    append(tmp_path / "log", BYTES)
    spool = streaming.spools.follow(attempt, tmp_path / "log")
    await spool.over.wait()
    assert coordinator.received_bytes == MAX_CHUNK_BYTES


async def test_a_log_without_a_byte_is_over_at_once(streaming: Streaming, tmp_path: Path) -> None:
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    streaming.spools.close(spool)
    await spool.over.wait()


async def test_a_stop_is_handed_on(streaming: Streaming, coordinator: Coordinator, tmp_path: Path) -> None:
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    append(tmp_path / "log", b"x")
    await has_all(coordinator, spool, b"x")
    await coordinator.push_stop(spool.attempt, "cancelled")
    await until(lambda: streaming.stops)
    assert streaming.stops == [(spool.attempt, "cancelled")]
