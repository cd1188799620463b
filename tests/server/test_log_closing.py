"""Logs that are over: compressed without a byte changing, cut short when they are old, and never lost in between."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from backports.zstd import ZstdFile
from websockets.exceptions import ConnectionClosedError

from fleet_protocol.ids import AttemptId
from fleet_protocol.workers import ClaimAnswer
from fleet_server.errors import LogClosed, LogDiverged, LogGap
from fleet_server.logs import reading
from fleet_server.logs.closed import FRAME_BYTES, Damaged, Interrupted
from fleet_server.logs.closing import Closing
from fleet_server.logs.sidecar import Kind, read_rows
from fleet_server.logs.store import LogStore
from tests.server.coordinator import Coordinator, FakeClock, Worker, job, jobs, manifest, refused

ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000000")
TEXT = b"".join(b"%d %s\n" % (line, b"." * (line * 37 % 300)) for line in range(24_000))


async def filled(folder: Path, clock: FakeClock) -> LogStore:
    """A log of some 3.6 MiB with a hole over a whole frame; its batches came a second apart."""
    store = LogStore(folder, clock)
    at = 0
    for size in (700_000, 900_000, 0, 50_000, 1_000_000, 123):
        clock.advance(1)
        if size:
            at = await store.append(ATTEMPT, at, TEXT[at : at + size])
        else:
            at = await store.append_hole(ATTEMPT, at, 2 * FRAME_BYTES)
    return store


@pytest.fixture
async def store(tmp_path: Path) -> LogStore:
    return await filled(tmp_path, FakeClock())


async def whole(store: LogStore) -> bytes:
    data = b""
    while part := await store.read(ATTEMPT, len(data), 1 << 30):
        data += part
    return data


async def test_a_closed_log_reads_as_before(store: LogStore, tmp_path: Path):
    before = await whole(store)
    start_ms = read_rows(store.path(ATTEMPT, ".rows"))[0].at_ms
    places = [0, 1, 699_999, 1_600_000, FRAME_BYTES, len(before) - 1, len(before), len(before) + 5]
    asked = [
        (lines, start_ms + late) for lines, late in ((0, -9), (1, 0), (7, 1), (900, 1500), (10**6, 99_000))
    ]

    async def answers(store: LogStore) -> object:
        return (
            [(await store.read(ATTEMPT, at, 100))[:1] for at in places],
            [await store.tail_offset(ATTEMPT, lines) for lines, _ in asked],
            [await store.since_offset(ATTEMPT, at_ms) for _, at_ms in asked],
            list(await store.holes(ATTEMPT)),
        )

    told = await answers(store)
    await store.close(ATTEMPT)
    assert not store.path(ATTEMPT).exists()
    for again in (store, LogStore(tmp_path, FakeClock())):
        assert await whole(again) == before
        assert await answers(again) == told
    with ZstdFile(store.path(ATTEMPT, ".log.zst")) as file:
        assert file.read() == before, "any zstd reads it"


async def test_a_closed_log_takes_replays_and_nothing_new(store: LogStore):
    await store.close(ATTEMPT)
    length = await store.durable(ATTEMPT)
    assert await store.append(ATTEMPT, 10, TEXT[10:5000]) == length
    with pytest.raises(LogDiverged):
        await store.append(ATTEMPT, 10, b"other")
    with pytest.raises(LogGap):
        await store.append(ATTEMPT, length + 1, b"x")
    with pytest.raises(LogClosed) as error:
        await store.append(ATTEMPT, length, b"x")
    assert error.value.current == {"durable": length}


async def test_a_crash_at_any_step_leaves_one_valid_copy(store: LogStore, tmp_path: Path):
    before = await whole(store)
    plain, packed = store.path(ATTEMPT), store.path(ATTEMPT, ".log.zst")
    image = plain.read_bytes()
    await store.close(ATTEMPT)
    finished = packed.read_bytes()
    half = packed.with_suffix(".part")
    for has_plain, has_half, has_packed in ((1, 1, 0), (1, 0, 1), (1, 1, 1), (0, 0, 1)):
        for path, data, is_there in (
            (plain, image, has_plain),
            (half, finished[:999], has_half),
            (packed, finished, has_packed),
        ):
            path.unlink(missing_ok=True)
            if is_there:
                path.write_bytes(data)
        again = LogStore(tmp_path, FakeClock())
        assert await whole(again) == before
        await again.close(ATTEMPT)
        assert await whole(again) == before
        assert (plain.exists(), packed.exists()) == (False, True)


async def test_a_coordinator_that_ends_leaves_compression_to_the_next(store: LogStore, tmp_path: Path):
    before = await whole(store)
    store.stop()
    with pytest.raises(Interrupted):
        await store.close(ATTEMPT)
    assert await whole(LogStore(tmp_path, FakeClock())) == before


async def test_a_disk_that_lies_about_what_was_written_is_found_out(store: LogStore, tmp_path: Path):
    await store.append(ATTEMPT, await store.durable(ATTEMPT), b"x" * 10)
    os.truncate(store.path(ATTEMPT), 1000)
    with pytest.raises(Damaged):
        await store.close(ATTEMPT)
    assert not store.path(ATTEMPT, ".log.zst").exists()


async def test_a_damaged_log_is_an_error_and_no_wrong_bytes(store: LogStore, tmp_path: Path):
    await store.close(ATTEMPT)
    path = store.path(ATTEMPT, ".log.zst")
    good = path.read_bytes()
    for bad in (good[:-1], good[:40], b"", good[:-9] + bytes(9)):
        path.write_bytes(bad)
        with pytest.raises(Damaged):
            await LogStore(tmp_path, FakeClock()).durable(ATTEMPT)


async def test_an_expired_log_keeps_its_beginning_and_its_end(store: LogStore, tmp_path: Path):
    before = await whole(store)
    await store.close(ATTEMPT)
    size = store.path(ATTEMPT, ".log.zst").stat().st_size
    for _ in range(2):  # as after a crash in the middle of it
        await store.expire(ATTEMPT)
        for again in (store, LogStore(tmp_path, FakeClock())):
            start, end = 64 * 1024, len(before) - 256 * 1024
            assert await whole(again) == before[:start] + bytes(end - start) + before[end:]
            holes = [(start, end, Kind.EXPIRED), (end, 1_600_000 + 2 * FRAME_BYTES, Kind.LOST)]
            assert await again.holes(ATTEMPT) == holes
            assert await again.tail_offset(ATTEMPT, 3) == reading_tail(before, 3)
    assert store.path(ATTEMPT, ".log.zst").stat().st_size < size / 3


def reading_tail(log: bytes, lines: int) -> int:
    at = len(log)
    for _ in range(lines):
        at = log.rfind(b"\n", 0, at - 1) + 1
    return at


async def test_a_short_log_expires_whole(tmp_path: Path):
    store = LogStore(tmp_path, FakeClock())
    await store.append(ATTEMPT, 0, TEXT[:5000])
    await store.close(ATTEMPT)
    await store.expire(ATTEMPT)
    assert await whole(store) == TEXT[:5000]


async def test_a_line_without_end_does_not_make_a_tail_of_everything(tmp_path: Path):
    store = LogStore(tmp_path, FakeClock())
    bar = b"\r 50%" * 1_000_000
    await store.append(ATTEMPT, 0, b"first\n" + bar)
    offset = await store.tail_offset(ATTEMPT, 1)
    assert 0 < len(bar) - offset <= reading.LONGEST_LINE_BYTES + reading.SCAN_BYTES


async def test_a_huge_hole_is_passed_over(tmp_path: Path):
    store = LogStore(tmp_path, FakeClock())
    await store.append(ATTEMPT, 0, b"first\nsecond ")
    await store.append_hole(ATTEMPT, 13, 5_000 * FRAME_BYTES)
    end = await store.append(ATTEMPT, 13 + 5_000 * FRAME_BYTES, b"half\nlast")
    for _ in range(2):
        assert await store.tail_offset(ATTEMPT, 1) == end - 4
        assert await store.tail_offset(ATTEMPT, 2) == 6
        assert await store.read(ATTEMPT, end - 9, 99) == b"half\nlast"
        await store.close(ATTEMPT)
    assert store.path(ATTEMPT, ".log.zst").stat().st_size < 1_000_000


# The loop


def closing(fleet: Coordinator, **changes: float) -> Closing:
    services = fleet.services
    settings = services.settings.model_copy(update=changes)
    return Closing(services.database, fleet.clock, settings, services.logs)


async def states(fleet: Coordinator, name: str = "noisy") -> list[str | None]:
    return [attempt["log_state"] for attempt in (await fleet.job(name))["history"]]


async def test_logs_are_closed_when_all_of_them_came(fleet: Coordinator):
    await fleet.load(manifest(job("noisy")))
    worker = await fleet.worker()
    attempt = await worker.take()
    loop = closing(fleet)
    await worker.log(attempt, 0, b"abc\n")
    await loop.once()
    assert await states(fleet) == [None], "it is under way"
    await worker.finish(attempt, log_bytes=8)
    await loop.once()
    assert await states(fleet) == [None], "four bytes are still to come"
    await worker.log(attempt, 4, b"def\n")
    await loop.once()
    assert await states(fleet) == ["complete"]
    assert fleet.services.logs.store.path(attempt.attempt, ".log.zst").exists()
    answer = await fleet.http().get("/v1/job/noisy/log?tail=1")
    assert (answer.content, answer.headers["fleet-log-state"]) == (b"def\n", "complete")
    assert (await worker.log(attempt, 0, b"abc\n")).json() == {"durable": 8}, "a replay"
    problem = await refused(await worker.log(attempt, 8, b"more"), 409, "log_closed")
    assert problem["current"] == {"durable": 8}


async def test_a_log_that_nobody_brings_is_given_up_after_a_day(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker = await fleet.worker(max_jobs=2)
    silent, noisy = await worker.take(), await worker.take()
    loop = closing(fleet)
    await worker.error(silent, log_bytes=10)
    await worker.error(noisy)
    fleet.clock.advance(timedelta(hours=23).total_seconds())
    await worker.log(noisy, 0, b"late")
    await loop.once()
    fleet.clock.advance(timedelta(hours=2).total_seconds())
    await loop.once()
    assert await states(fleet, silent.job.job_id) == ["partial"]
    assert await states(fleet, noisy.job.job_id) == [None], "its last bytes came two hours ago"
    await refused(await worker.log(silent, 0, b"too late"), 409, "log_closed")
    fleet.clock.advance(timedelta(hours=23).total_seconds())
    await loop.once()
    assert await states(fleet, noisy.job.job_id) == ["partial"]


async def test_what_a_lost_attempt_says_of_its_log_closes_it(fleet: Coordinator):
    await fleet.load(manifest(*jobs(4)))
    worker, thief = await fleet.worker(max_jobs=4), await fleet.worker("thief")
    lost = [await worker.take() for _ in range(4)]
    await fleet.post(f"/v1/job/{lost[3].job.job_id}/cancel")
    for _ in range(21):  # to the end of the lease, without a pause of the sweep's own
        fleet.clock.advance(30)
        await fleet.sweep.once()
    before = await rows(fleet, lost), await fleet.count("events")
    for at, attempt in enumerate(lost):
        await worker.log(attempt, 0, b"abc\n")
        await refused(await thief.error(attempt, log_bytes=4), 409, "stale_attempt")
        report = (worker.finish, worker.error, _released(worker), _released(worker))[at]
        for log_bytes in (8, 4):  # what was said first counts
            answer = await report(attempt, log_bytes=log_bytes)
            assert answer.status_code == (200 if at == 3 else 409), "it was cancelled, or has lost the job"
    loop = closing(fleet)
    await loop.once()
    assert (await rows(fleet, lost), await fleet.count("events")) == before
    for attempt in lost:
        await worker.log(attempt, 4, b"def\n")
    await loop.once()
    assert [row["log_state"] for row in await rows(fleet, lost)] == ["complete"] * 4


def _released(worker: Worker) -> Callable[..., Awaitable[httpx.Response]]:
    return partial(worker.say, "release", reason="drained")


async def rows(fleet: Coordinator, attempts: Sequence[ClaimAnswer]) -> list[dict[str, object]]:
    """Each attempt as its job tells it."""
    return [(await fleet.job(attempt.job.job_id))["history"][0] for attempt in attempts]


async def test_old_logs_expire_and_say_so(fleet: Coordinator):
    await fleet.load(manifest(job("noisy")))
    worker = await fleet.worker()
    attempt = await worker.take()
    text = random.Random(1).randbytes(600_000)
    await worker.log(attempt, 0, text)
    await worker.finish(attempt, log_bytes=len(text))
    loop = closing(fleet, log_days=1)
    await loop.once()
    assert await states(fleet) == ["complete"]
    fleet.clock.advance(timedelta(days=2).total_seconds())
    await loop.once()
    assert await states(fleet) == ["expired"]
    answer = await fleet.http().get("/v1/job/noisy/log")
    hole = (64 * 1024, len(text) - 256 * 1024)
    assert answer.headers["fleet-log-state"] == "expired"
    assert answer.headers["fleet-log-holes"] == f"{hole[0]}-{hole[1]}"
    assert answer.content == text[: hole[0]] + bytes(hole[1] - hole[0]) + text[hole[1] :]


async def test_the_oldest_logs_make_room(fleet: Coordinator):
    await fleet.load(manifest(*jobs(3)))
    worker = await fleet.worker(max_jobs=3)
    text = random.Random(1).randbytes(900_000)
    attempts = []
    for _ in range(3):
        attempts.append(await worker.take())
        await worker.log(attempts[-1], 0, text)
        if len(attempts) < 3:
            await worker.error(attempts[-1], log_bytes=len(text))
        fleet.clock.advance(1)
    await closing(fleet, log_gib=2.5 * len(text) / 1024**3).once()
    told = [(await states(fleet, one.job.job_id))[-1] for one in attempts]
    assert told == ["expired", "complete", None], "the one under way is never touched"


async def test_expired_logs_can_be_pruned(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker = await fleet.worker(max_jobs=2)
    old, running = await worker.take(), await worker.take()
    for attempt in (old, running):
        await worker.log(attempt, 0, b"abc")
    await worker.error(old, log_bytes=3)
    store = fleet.services.logs.store
    await closing(fleet).once()
    fleet.clock.advance(timedelta(days=365 * 30).total_seconds())
    await closing(fleet, log_days=1).once()
    assert await states(fleet, old.job.job_id) == ["expired"]
    for dry_run in (True, False):
        told = (await fleet.post("/v1/prune", {"dry_run": dry_run})).json()["items"]
        assert {item["id"] for item in told if item["kind"] == "log"} == {old.attempt}
    left = {path.name.partition(".")[0] for path in store.folder.glob("*/*")}
    assert left == {running.attempt}
    assert (await fleet.http().get(f"/v1/attempt/{old.attempt}/log")).headers["fleet-log-state"] == "expired"


async def test_a_log_that_cannot_be_read_keeps_no_other_from_its_turn(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker = await fleet.worker(max_jobs=2)
    broken, good = await worker.take(), await worker.take()
    for attempt in (broken, good):
        await worker.log(attempt, 0, b"abc")
        await worker.error(attempt, log_bytes=3)
        fleet.clock.advance(1)
    os.truncate(fleet.services.logs.store.path(broken.attempt), 1)
    for _ in range(2):
        await closing(fleet).once()
        assert (await states(fleet, broken.job.job_id))[-1] is None
        assert (await states(fleet, good.job.job_id))[-1] == "complete"


async def test_a_damaged_log_says_which_it_is_and_what_is_left(fleet: Coordinator):
    await fleet.load(manifest(job("noisy")))
    worker = await fleet.worker()
    attempt = await worker.take()
    text = random.Random(1).randbytes(FRAME_BYTES + 9)
    await worker.log(attempt, 0, text[:FRAME_BYTES])
    await worker.log(attempt, FRAME_BYTES, text[FRAME_BYTES:])
    await worker.error(attempt, log_bytes=len(text))
    await closing(fleet).once()
    path = fleet.services.logs.store.path(attempt.attempt, ".log.zst")
    with path.open("r+b") as file:
        file.seek(FRAME_BYTES // 2)
        file.write(b"damage")
    problem = await refused(await fleet.http().get("/v1/job/noisy/log"), 500, "log_damaged")
    assert attempt.attempt in problem["detail"]
    assert f"bytes 0 to {FRAME_BYTES} cannot be read, others can" in problem["detail"]
    rest = await fleet.http().get(f"/v1/job/noisy/log?offset={FRAME_BYTES}")
    assert (rest.status_code, rest.content) == (200, text[FRAME_BYTES:])
    async with fleet.websocket("/v1/job/noisy/log") as viewer:
        await viewer.recv()
        with pytest.raises(
            ConnectionClosedError, match=f"1011.*{attempt.attempt}.*bytes 0 to {FRAME_BYTES} "
        ):
            await viewer.recv()
