"""Logs over HTTP and websockets: in by an agent, out to a reader, history and then live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from fleet_protocol.ids import AttemptId, new_attempt_id
from fleet_protocol.logs import (
    HOLE_HEADER,
    Ack,
    Ask,
    Hole,
    LogEnd,
    LogStart,
    Nack,
    Resume,
    Stop,
    StreamHello,
    data_frame,
    to_agent,
    to_viewer,
)
from fleet_protocol.workers import ClaimAnswer
from tests.server.coordinator import Coordinator, Worker, job, jobs, manifest, refused, until

LINES = b"".join(b"line %03d\n" % number for number in range(100))

NOBODY = AttemptId("00000000-0000-4000-8000-000000000000")  # the same in every process that collects tests


@pytest.fixture
async def held(fleet: Coordinator) -> tuple[Worker, ClaimAnswer]:
    await fleet.load(manifest(job("noisy")))
    worker = await fleet.worker()
    return worker, await worker.take()


async def test_over_http(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    path = f"/v1/attempt/{attempt.attempt}/log"
    assert (await fleet.http("agent").head(path)).headers["upload-offset"] == "0"
    assert (await worker.log(attempt, 0, LINES[:500])).json() == {"durable": 500}
    assert (await worker.log(attempt, 400, LINES[400:])).json() == {"durable": len(LINES)}
    assert (await fleet.http("agent").head(path)).headers["upload-offset"] == str(len(LINES))
    problem = await refused(await worker.log(attempt, 5000, b"x"), 409, "log_gap")
    assert problem["current"] == {"durable": len(LINES)}
    problem = await refused(await worker.log(attempt, 0, b"other"), 409, "log_diverged")
    assert problem["current"] == {"durable": len(LINES)}


async def test_reading_a_part(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    await worker.log(attempt, 0, LINES)
    for path in ("/v1/job/noisy/log", f"/v1/attempt/{attempt.attempt}/log"):
        for query, offset in (
            ("", 0),
            ("?offset=450", 450),
            ("?tail=2", 882),
            ("?tail=0", 900),
            ("?offset=901", 901),
        ):
            answer = await fleet.http("viewer").get(path + query)
            assert answer.content == LINES[offset:]
            assert {name: answer.headers[name] for name in answer.headers if name.startswith("fleet-")} == {
                "fleet-attempt": attempt.attempt,
                "fleet-log-offset": str(offset),
                "fleet-log-length": "900",
                "fleet-log-open": "?1",
                "fleet-log-state": "live",
            }


async def test_a_log_is_closed_once_its_attempt_is_over_and_all_of_it_came(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, attempt = held
    await worker.log(attempt, 0, b"abc")
    await worker.say("release", attempt, reason="drained", log_bytes=5)

    async def is_open() -> str:
        return (await fleet.http().get("/v1/job/noisy/log")).headers["fleet-log-open"]

    assert await is_open() == "?1", "two bytes are still to come"
    fleet.clock.advance(31)
    assert await is_open() == "?0", "they are not waited for for ever"
    assert (await worker.log(attempt, 3, b"de")).json() == {"durable": 5}, "and still taken, as evidence"


async def test_a_long_log_comes_in_parts(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    mib = 1024 * 1024
    for number in range(5):
        await worker.log(attempt, number * mib, bytes([number]) * mib)
    first = await fleet.http().get("/v1/job/noisy/log")
    assert (len(first.content), first.headers["fleet-log-length"]) == (4 * mib, str(5 * mib))
    rest = await fleet.http().get(f"/v1/job/noisy/log?offset={4 * mib}")
    assert rest.content == bytes([4]) * mib


async def test_which_attempt_is_meant(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, first = held
    await worker.log(first, 0, b"first")
    await worker.say("release", first, reason="drained")
    assert (await fleet.http().get("/v1/job/noisy/log")).content == b"first"
    second = await worker.take()
    await worker.log(second, 0, b"second")
    assert (await fleet.http().get("/v1/job/noisy/log")).content == b"second"
    assert (await fleet.http().get(f"/v1/job/noisy/log?attempt={first.attempt}")).content == b"first"


async def test_logs_that_are_not_there(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    problem = await refused(await fleet.http().get("/v1/job/job 000/log"), 409, "wrong_state")
    assert problem["next"].startswith("fleet explain ")
    await refused(await fleet.http().get(f"/v1/attempt/{uuid4()}/log"), 404, "unknown_attempt")
    worker = await fleet.worker()
    held = await worker.take()
    other = "job 000" if held.job.name == "job 001" else "job 001"
    answer = await fleet.http().get(f"/v1/job/{other}/log?attempt={held.attempt}")
    await refused(answer, 404, "unknown_attempt")
    headers = {"Upload-Offset": "0"}
    answer = await fleet.http("agent").patch(f"/v1/attempt/{uuid4()}/log", content=b"x", headers=headers)
    await refused(answer, 404, "unknown_attempt")


async def _until_end(viewer: ClientConnection) -> tuple[bytes, LogEnd]:
    """The bytes and the last word, once the word before them was read."""
    data = b""
    while isinstance(message := await viewer.recv(), bytes):
        data += message
    end = to_viewer.validate_json(message)
    assert isinstance(end, LogEnd)
    with pytest.raises(ConnectionClosed):
        await viewer.recv()
    assert viewer.close_code == 1000
    return data, end


async def test_history_and_then_live_without_a_seam(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    await worker.log(attempt, 0, LINES[:300])
    async with (
        fleet.websocket("/v1/job/noisy/log") as whole,
        fleet.websocket("/v1/job/noisy/log?tail=1") as tail,
        fleet.websocket("/v1/job/noisy/log?offset=100") as middle,
        asyncio.TaskGroup() as group,
    ):
        viewers = (whole, tail, middle)
        starts = [to_viewer.validate_json(await viewer.recv()) for viewer in viewers]
        followers = [group.create_task(_until_end(viewer)) for viewer in viewers]
        for offset in range(300, len(LINES), 50):
            await worker.log(attempt, offset, LINES[offset : offset + 50])
        await worker.finish(attempt, log_bytes=len(LINES))
    for start, follower, offset in zip(starts, followers, (0, 297, 100), strict=True):
        data, end = follower.result()
        assert start == LogStart(attempt=attempt.attempt, offset=offset)
        assert data == LINES[offset:]
        assert (end.length, end.status) == (len(LINES), "completed")


async def test_following_waits_for_the_last_bytes_of_an_attempt_that_is_over(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, attempt = held
    await worker.log(attempt, 0, b"first ")
    await worker.error(attempt, log_bytes=10)
    async with fleet.websocket("/v1/job/noisy/log") as viewer, asyncio.TaskGroup() as group:
        assert "start" in str(await viewer.recv())
        follower = group.create_task(_until_end(viewer))
        await worker.log(attempt, 6, b"last")
    assert follower.result()[0] == b"first last"


async def test_following_from_beyond_the_end(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    await worker.log(attempt, 0, b"abc")
    await worker.finish(attempt, log_bytes=3)
    async with fleet.websocket("/v1/job/noisy/log?offset=99") as viewer:
        assert "start" in str(await viewer.recv())
        data, end = await _until_end(viewer)
    assert (data, end.length) == (b"", 3)


async def test_a_viewer_that_goes_away_is_forgotten(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    async with fleet.websocket("/v1/job/noisy/log") as viewer:
        await viewer.recv()
        before = len(asyncio.all_tasks())
    await until(lambda: len(asyncio.all_tasks()) < before)


@asynccontextmanager
async def _stream(fleet: Coordinator, worker: Worker) -> AsyncIterator[ClientConnection]:
    async with fleet.websocket("/v1/worker/stream", "agent") as stream:
        await stream.send(StreamHello(worker=worker.id, incarnation=worker.incarnation).model_dump_json())
        yield stream


async def _word(stream: ClientConnection) -> object:
    return to_agent.validate_json(await stream.recv())


async def test_an_agents_stream(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    name, nobody = attempt.attempt, new_attempt_id()
    async with _stream(fleet, worker) as stream:
        await stream.send(Ask(attempt=name).model_dump_json())
        assert await _word(stream) == Resume(attempt=name, durable=0)
        await stream.send(data_frame(name, 0, b"hello "))
        assert await _word(stream) == Ack(attempt=name, durable=6)
        await stream.send(data_frame(name, 9, b"gap"))
        assert await _word(stream) == Nack(attempt=name, durable=6, reason="gap")
        await stream.send(data_frame(name, 0, b"other"))
        assert await _word(stream) == Nack(attempt=name, durable=6, reason="diverged")
        await stream.send(Ask(attempt=nobody).model_dump_json())
        assert await _word(stream) == Nack(attempt=nobody, durable=0, reason="unknown")
        await stream.send(data_frame(nobody, 0, b"x"))
        assert await _word(stream) == Nack(attempt=nobody, durable=0, reason="unknown")
    async with _stream(fleet, worker) as stream:
        await stream.send(Ask(attempt=name).model_dump_json())
        assert await _word(stream) == Resume(attempt=name, durable=6), (
            "the coordinator dictates where to go on"
        )
        await stream.send(data_frame(name, 3, b"lo world"))
        assert await _word(stream) == Ack(attempt=name, durable=11)
    assert (await worker.log(attempt, 11, b"!")).json() == {"durable": 12}, (
        "HTTP goes on where the stream ended"
    )
    assert (await fleet.http().get("/v1/job/noisy/log")).content == b"hello world!"


async def test_a_cancel_is_pushed_to_the_agent(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    async with _stream(fleet, worker) as stream:
        await until(lambda: worker.id in fleet.services.streams.outboxes)
        await fleet.post("/v1/job/noisy/cancel")
        assert await _word(stream) == Stop(attempt=attempt.attempt, why="cancelled by the operator")
    await until(lambda: not fleet.services.streams.outboxes)


async def test_a_newer_stream_of_a_worker_takes_over(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, _ = held
    async with _stream(fleet, worker):
        await until(lambda: worker.id in fleet.services.streams.outboxes)
        older = fleet.services.streams.outboxes[worker.id]
        async with _stream(fleet, worker) as newer:
            await until(lambda: fleet.services.streams.outboxes.get(worker.id) is not older)
            await fleet.post("/v1/job/noisy/cancel")
            assert isinstance(await _word(newer), Stop)


@pytest.mark.parametrize(
    "message",
    [
        "nonsense",
        "{}",
        json.dumps({"type": "ask", "attempt": NOBODY}),
        b"short",
        b"x" * 100,
    ],
)
async def test_a_stream_that_does_not_begin_with_hello_is_closed(fleet: Coordinator, message: str | bytes):
    async with fleet.websocket("/v1/worker/stream", "agent") as stream:
        await stream.send(message)
        with pytest.raises(ConnectionClosed):
            await stream.recv()
        assert stream.close_code == 1008


@pytest.mark.parametrize("message", ["nonsense", b"short", data_frame(NOBODY, 0, b"x" * (256 * 1024 + 1))])
async def test_nonsense_later_on_closes_the_stream(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer], message: str | bytes
):
    async with _stream(fleet, held[0]) as stream:
        await stream.send(message)
        with pytest.raises(ConnectionClosed):
            await stream.recv()
        assert stream.close_code == 1008


async def test_a_declared_hole_goes_by_the_append_rule(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    name, http = attempt.attempt, fleet.http("agent")
    path = f"/v1/attempt/{name}/log"
    await worker.log(attempt, 0, b"abc")
    for offset, durable in ((4, None), (3, 8), (3, 8)):
        answer = await http.patch(path, headers={"Upload-Offset": str(offset), HOLE_HEADER: "5"})
        assert answer.json().get("durable") == durable
    answer = await http.patch(path, content=b"x", headers={"Upload-Offset": "8", HOLE_HEADER: "5"})
    await refused(answer, 422, "invalid_request")
    async with _stream(fleet, worker) as stream:
        await stream.send(Hole(attempt=name, offset=9, length=2).model_dump_json())
        assert await _word(stream) == Nack(attempt=name, durable=8, reason="gap")
        await stream.send(Hole(attempt=name, offset=8, length=2, why="over budget").model_dump_json())
        assert await _word(stream) == Ack(attempt=name, durable=10)
    assert (await worker.log(attempt, 10, b"end")).json() == {"durable": 13}
    assert (await fleet.http().get("/v1/job/noisy/log")).content == b"abc" + bytes(7) + b"end"


async def test_no_room_is_said_and_ends_nothing(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    await worker.log(attempt, 0, b"abc")
    store = fleet.services.logs.store
    async with _stream(fleet, worker) as stream:
        store.reserve_bytes = 1 << 60
        await stream.send(data_frame(attempt.attempt, 3, b"def"))
        assert await _word(stream) == Nack(attempt=attempt.attempt, durable=3, reason="full")
        problem = await refused(await worker.log(attempt, 3, b"def"), 507, "storage_full")
        assert problem["current"] == {"durable": 3}
        assert (await worker.say("heartbeat", attempt)).status_code == 200
        store.reserve_bytes = 0
        await stream.send(data_frame(attempt.attempt, 3, b"def"))
        assert await _word(stream) == Ack(attempt=attempt.attempt, durable=6)
