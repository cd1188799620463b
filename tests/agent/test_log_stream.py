"""The log's way over real websockets and real HTTP, with connections that break: bytes must come out equal."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_agent.log_stream import LogStream
from fleet_agent.settings import Timing
from fleet_agent.spool import HEAD_BYTES, TAIL_BYTES, Spool
from fleet_agent.spools import SpoolDisk, Spools
from fleet_agent.uplink import Uplink
from fleet_protocol.errors import Code, Problem
from fleet_protocol.ids import AttemptId, new_attempt_id, new_worker_id
from fleet_protocol.logs import MAX_CHUNK_BYTES, StreamHello
from tests.agent.conftest import QUICK, until
from tests.agent.coordinator import TOKEN, Coordinator

BUDGET = 64 << 20
BYTES = random.Random(1).randbytes(3 * MAX_CHUNK_BYTES + 17)


class Streaming:
    """A running log stream; what the coordinator pushes is kept in `stops`."""

    def __init__(self, coordinator: Coordinator, folder: Path, timing: Timing = QUICK) -> None:
        self.uplink = Uplink(coordinator.url, lambda: TOKEN, retry_ceiling=0.05)
        self.stops: list[tuple[AttemptId, str]] = []
        hello = StreamHello(worker=new_worker_id(), incarnation=new_worker_id())
        self.spools = Spools(SpoolDisk(folder, BUDGET), timing)
        self.stream = LogStream(
            self.uplink,
            hello,
            timing,
            self.spools,
            on_stop=lambda *word: self.stops.append(word),
            on_wake=lambda: None,
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.spools.run())
            group.create_task(self.stream.run())

    async def end(self, running: asyncio.Task[None]) -> None:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await self.uplink.close()


@pytest.fixture
async def streaming(coordinator: Coordinator, tmp_path: Path) -> AsyncIterator[Streaming]:
    made = Streaming(coordinator, tmp_path)
    running = asyncio.create_task(made.run())
    yield made
    await made.end(running)


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


async def test_a_noisy_log_waits_for_the_others_turns(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path
) -> None:
    noise = random.Random(2).randbytes(100 * MAX_CHUNK_BYTES)
    append(tmp_path / "noisy", noise)
    noisy = streaming.spools.follow(new_attempt_id(), tmp_path / "noisy")
    await coordinator.until(lambda: len(coordinator.logs[noisy.attempt]) > 0)
    append(tmp_path / "quiet", b"one line\n")
    before = len(coordinator.logs[noisy.attempt])
    quiet = streaming.spools.follow(new_attempt_id(), tmp_path / "quiet")
    await has_all(coordinator, quiet, b"one line\n")
    assert len(coordinator.logs[noisy.attempt]) - before <= 10 * MAX_CHUNK_BYTES
    await has_all(coordinator, noisy, noise)


@pytest.mark.parametrize("has_websocket", [True, False])
async def test_a_coordinator_without_room_is_offered_the_same_again(
    streaming: Streaming,
    coordinator: Coordinator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_websocket: bool,
) -> None:
    coordinator.has_websocket = has_websocket
    monkeypatch.setattr("fleet_agent.log_stream.FULL_SECONDS", 0.02)
    coordinator.full_for = 3
    append(tmp_path / "log", BYTES)
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    await has_all(coordinator, spool)
    assert coordinator.full_for == 0
    assert len(coordinator.of("stream")) == has_websocket


@pytest.mark.parametrize("has_websocket", [True, False])
async def test_lost_bytes_are_declared_and_the_rest_arrives(
    streaming: Streaming, coordinator: Coordinator, tmp_path: Path, has_websocket: bool
) -> None:
    """By either way; a cut comes where the hole was stored and not acknowledged."""
    coordinator.has_websocket = has_websocket
    coordinator.cut_after_frames = 5
    data = random.Random(3).randbytes(4 << 20)
    append(tmp_path / "log", data)
    spool = Spool(new_attempt_id(), tmp_path / "log")
    spool.drop(HEAD_BYTES, len(data))
    spool = streaming.spools.follow(spool.attempt, tmp_path / "log")
    await coordinator.until(lambda: len(coordinator.logs[spool.attempt]) == len(data))
    [(start, end)] = coordinator.holes[spool.attempt]
    assert coordinator.logs[spool.attempt] == data[:start] + bytes(end - start) + data[end:]
    assert (start, end) == (HEAD_BYTES, len(data) - TAIL_BYTES)
    assert coordinator.of("stream") == [] or has_websocket


async def strike(coordinator: Coordinator, luck: random.Random) -> None:
    """Something goes wrong, or a while passes until all that was printed so far is there."""
    match luck.randrange(4):
        case 0:
            coordinator.cut_after_frames = luck.randrange(1, 4)
        case 1:
            coordinator.has_websocket = not coordinator.has_websocket
        case 2:
            await coordinator.stop()
            for log in coordinator.logs.values():  # what was acknowledged is lost, as after a restored backup
                del log[luck.randrange(len(log) + 1) :]
            await coordinator.start()
        case 3:
            grown = coordinator.received_bytes
            await coordinator.until(lambda: coordinator.received_bytes > grown)


@pytest.mark.parametrize("seed", range(4))
async def test_any_mix_of_faults_and_transports_ends_with_the_same_bytes(
    coordinator: Coordinator, tmp_path: Path, seed: int
) -> None:
    luck, timing = random.Random(seed), dataclasses.replace(QUICK, http_logs=0.2, http_poll=0.01)
    attempts = {new_attempt_id(): tmp_path / str(number) for number in range(3)}
    for _ in range(5):
        streaming = Streaming(coordinator, tmp_path, timing)
        running = asyncio.create_task(streaming.run())
        spools = [streaming.spools.follow(attempt, path) for attempt, path in attempts.items()]
        for _ in range(5):
            for path in attempts.values():
                append(path, luck.randbytes(luck.choice((1, 50, 3000, 400_000))))
            await strike(coordinator, luck)
        if luck.random() < 0.5:
            for spool, path in zip(spools, attempts.values(), strict=True):
                await has_all(coordinator, spool, path.read_bytes())
        await streaming.end(running)  # an agent that dies; another takes its place
    streaming = Streaming(coordinator, tmp_path, timing)
    running = asyncio.create_task(streaming.run())
    for attempt, path in attempts.items():
        await has_all(coordinator, streaming.spools.follow(attempt, path), path.read_bytes())
    await streaming.end(running)
    assert not any(coordinator.holes.values())


async def test_a_stop_is_handed_on(streaming: Streaming, coordinator: Coordinator, tmp_path: Path) -> None:
    spool = streaming.spools.follow(new_attempt_id(), tmp_path / "log")
    append(tmp_path / "log", b"x")
    await has_all(coordinator, spool, b"x")
    await coordinator.push_stop(spool.attempt, "cancelled")
    await until(lambda: streaming.stops)
    assert streaming.stops == [(spool.attempt, "cancelled")]
