"""Who reads a log gets every byte once, whenever it comes, however often it breaks off and however slow it is."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from fleet_protocol.logs import (
    HOLE_HEADER,
    Ack,
    Hole,
    LogEnd,
    LogHole,
    LogStart,
    LogTime,
    StreamHello,
    data_frame,
    to_agent,
    to_viewer,
)
from fleet_protocol.workers import ClaimAnswer
from fleet_server import sockets
from fleet_server.logs import routes
from tests.server.coordinator import Coordinator, Worker, job, manifest, refused, until

LOG = "/v1/job/noisy/log"


@pytest.fixture
async def held(fleet: Coordinator) -> tuple[Worker, ClaimAnswer]:
    await fleet.load(manifest(job("noisy")))
    worker = await fleet.worker()
    return worker, await worker.take()


async def lose(worker: Worker, held: ClaimAnswer, offset: int, length: int) -> None:
    headers = {"Upload-Offset": str(offset), HOLE_HEADER: str(length)}
    answer = await worker.coordinator.http("agent").patch(f"/v1/attempt/{held.attempt}/log", headers=headers)
    assert answer.json() == {"durable": offset + length}


async def test_a_hole_is_a_word_in_its_place(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    await worker.log(attempt, 0, b"before")
    await lose(worker, attempt, 6, 1 << 40)
    await worker.log(attempt, 6 + (1 << 40), b"behind")
    await worker.finish(attempt, log_bytes=12 + (1 << 40))
    for query, expected in (
        (
            "",
            [
                LogStart(attempt=attempt.attempt, offset=0),
                b"before",
                LogHole(offset=6, length=1 << 40),
                b"behind",
            ],
        ),
        (
            "?offset=9",
            [LogStart(attempt=attempt.attempt, offset=9), LogHole(offset=9, length=(1 << 40) - 3), b"behind"],
        ),
        (
            "?tail=1",
            [
                LogStart(attempt=attempt.attempt, offset=0),
                b"before",
                LogHole(offset=6, length=1 << 40),
                b"behind",
            ],
        ),
    ):
        async with fleet.websocket(LOG + query) as viewer:
            for message in expected:
                told = await viewer.recv()
                assert (told if isinstance(told, bytes) else to_viewer.validate_json(told)) == message
            assert isinstance(to_viewer.validate_json(await viewer.recv()), LogEnd)
    answer = await fleet.http().get(LOG, params={"offset": 6 + (1 << 40) - 3})
    assert (answer.content, answer.headers["fleet-log-holes"]) == (bytes(3) + b"behind", f"6-{6 + (1 << 40)}")
    answer = await fleet.http().get(LOG, params={"offset": 6 + (1 << 40)})
    assert "fleet-log-holes" not in answer.headers


async def test_since_a_time_or_a_while_ago(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    started = fleet.clock.now()
    for number, piece in enumerate((b"zero\none", b" more\n", b"two\n")):
        await worker.log(attempt, sum(map(len, (b"zero\none", b" more\n")[:number])), piece)
        fleet.clock.advance(60)
    whole = b"zero\none more\ntwo\n"
    for since, expected in (
        (started - timedelta(days=1), whole),
        (started + timedelta(seconds=60), b"one more\ntwo\n"),
        (started + timedelta(seconds=90), b"two\n"),
        (started + timedelta(seconds=121), b""),
    ):
        for asked in (since.isoformat(), str((fleet.clock.now() - since).total_seconds())):
            answer = await fleet.http().get(LOG, params={"since": asked})
            assert answer.content == expected
            assert answer.headers["fleet-log-offset"] == str(len(whole) - len(expected))
    async with fleet.websocket(LOG + "?since=61") as viewer:
        assert to_viewer.validate_json(await viewer.recv()) == LogStart(attempt=attempt.attempt, offset=14)


@pytest.mark.parametrize(
    "query",
    ["since=soon", "since=-1", "since=nan", "since=2026-01-01T00:00:00", "since=5&tail=1", "offset=1&tail=1"],
)
async def test_a_place_that_is_none(fleet: Coordinator, held: tuple[Worker, ClaimAnswer], query: str):
    await refused(await fleet.http().get(f"{LOG}?{query}"), 422, "invalid_request")


async def test_one_that_reads_nothing_is_let_go_and_goes_on_by_its_cursor(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routes, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(sockets, "CLOSE_SECONDS", 0.1)
    worker, attempt = held
    text, size = random.Random(1).randbytes(1 << 20), 12 << 20
    for number in range(12):
        await worker.log(attempt, number << 20, text)
    async with fleet.websocket(LOG) as slow, fleet.websocket(LOG) as quick:
        start = await slow.recv()
        assert "start" in str(start)
        await quick.recv()
        assert await _received(quick, size) == text * 12
        await until_let_go()
        received = await _rest(slow)
    assert len(received) < size
    assert (text * 12).startswith(received)
    async with fleet.websocket(f"{LOG}?offset={len(received)}") as again:
        await again.recv()
        assert received + await _received(again, size - len(received)) == text * 12


async def until_let_go() -> None:
    """The one viewer that is left is the quick one, which waits for more."""

    def following() -> int:
        return sum("_send_log" in repr(task.get_coro()) for task in asyncio.all_tasks())

    await until(lambda: following() <= 1)


async def _rest(viewer: ClientConnection) -> bytes:
    """What still comes before the connection ends."""
    data = bytearray()
    with suppress(ConnectionClosed):
        while isinstance(message := await viewer.recv(), bytes):
            data += message
    return bytes(data)


async def _received(viewer: ClientConnection, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        message = await viewer.recv()
        assert isinstance(message, bytes)
        data += message
    return bytes(data)


class Bringer:
    """An agent that changes its transport, repeats itself, overlaps and loses some."""

    def __init__(self, worker: Worker, held: ClaimAnswer, luck: random.Random) -> None:
        self.worker, self.held, self.luck = worker, held, luck
        self.printed = luck.randbytes(200_000)
        self.truth = b""

    async def bring(self) -> None:
        fleet, name = self.worker.coordinator, self.held.attempt
        async with fleet.websocket("/v1/worker/stream", "agent") as stream:
            hello = StreamHello(worker=self.worker.id, incarnation=self.worker.incarnation)
            await stream.send(hello.model_dump_json())
            while len(self.truth) < len(self.printed):
                start = max(0, len(self.truth) - self.luck.choice([0, 0, 0, 5000]))
                data = self.printed[start : start + self.luck.randrange(1, 30_000)]
                if self.luck.random() < 0.1 and start == len(self.truth):
                    await stream.send(Hole(attempt=name, offset=start, length=len(data)).model_dump_json())
                    self.printed = self.printed[:start] + bytes(len(data)) + self.printed[start + len(data) :]
                elif self.luck.random() < 0.5:
                    assert (await self.worker.log(self.held, start, data)).status_code == 200
                    self.truth = max(self.truth, self.printed[: start + len(data)], key=len)
                    continue
                else:
                    await stream.send(data_frame(name, start, data))
                word = to_agent.validate_json(await stream.recv())
                self.truth = max(self.truth, self.printed[: start + len(data)], key=len)
                assert word == Ack(attempt=name, durable=len(self.truth))


async def _viewed(fleet: Coordinator, luck: random.Random, start: int) -> bytes:
    """What a viewer from `start` on has at the end, whose connection breaks again and again."""
    data = b""
    while True:
        async with fleet.websocket(f"{LOG}?offset={start + len(data)}") as viewer:
            await viewer.recv()
            for _ in range(luck.randrange(1, 9)):
                message = await viewer.recv()
                word = None if isinstance(message, bytes) else to_viewer.validate_json(message)
                if isinstance(word, LogEnd):
                    return data
                data += (
                    message
                    if isinstance(message, bytes)
                    else bytes(word.length if isinstance(word, LogHole) else 0)
                )


@pytest.mark.parametrize("seed", range(3))
async def test_any_transport_and_any_viewer_have_the_same_bytes(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer], seed: int
):
    luck = random.Random(seed)
    worker, attempt = held
    bringer = Bringer(worker, attempt, luck)
    starts = [0, *(luck.randrange(100_000) for _ in range(5))]
    async with asyncio.TaskGroup() as group:
        viewers = [group.create_task(_viewed(fleet, random.Random(start), start)) for start in starts]
        await bringer.bring()
        await worker.finish(attempt, log_bytes=len(bringer.truth))
    for start, viewer in zip(starts, viewers, strict=True):
        assert viewer.result() == bringer.truth[start:]


async def words(fleet: Coordinator, path: str) -> list[object]:
    async with fleet.websocket(path) as viewer:
        return [told if isinstance(told, bytes) else to_viewer.validate_json(told) async for told in viewer]


async def test_times_are_told_when_the_second_changes_to_those_who_ask(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, attempt = held
    began = int(fleet.clock.now().timestamp())
    await worker.log(attempt, 0, b"one\n")
    await worker.log(attempt, 4, b"two\n")
    fleet.clock.advance(75)
    await worker.log(attempt, 8, b"three\n")
    await worker.finish(attempt, log_bytes=14)

    first, second = (LogTime(at=datetime.fromtimestamp(began + after, UTC)) for after in (0, 75))
    told = await words(fleet, f"{LOG}?times=true")
    assert told[1:-1] == [first, b"one\ntwo\n", second, b"three\n"]
    assert (await words(fleet, LOG))[1:-1] == [b"one\ntwo\nthree\n"]
