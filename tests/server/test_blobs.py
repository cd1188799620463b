"""Blobs: pushed whole, in parts, wrong, by two at once; and the checkpoint a job goes on from."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from fleet_protocol.archive import content_digest
from fleet_protocol.ids import Sha256
from fleet_protocol.workers import ClaimAnswer
from fleet_server.content import ContentStore, Part
from fleet_server.errors import UploadOffset
from tests.server.coordinator import (
    OWN,
    Coordinator,
    FakeClock,
    Worker,
    digest,
    job,
    manifest,
    refused,
    running,
    until,
)

DATA = os.urandom(3_000_000)
NAME = Sha256(digest(DATA))
PATH = f"/v1/blob/{NAME}"


async def _put(fleet: Coordinator, data: bytes, name: str = NAME, **headers: str) -> httpx.Response:
    return await fleet.http().put(f"/v1/blob/{name}", content=data, headers=headers)


def _range(start: int, end: int, total: int = len(DATA)) -> dict[str, str]:
    return {"Content-Range": f"bytes {start}-{end - 1}/{total}"}


def _files(fleet: Coordinator) -> dict[str, int]:
    folders = (fleet.data / "blobs", fleet.data / "uploads")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(fleet.data)): file.stat().st_size for file in files}


async def _state(fleet: Coordinator, name: str = NAME) -> tuple[int, str | None, str | None]:
    answer = await fleet.http().head(f"/v1/blob/{name}")
    return answer.status_code, answer.headers.get("upload-offset"), answer.headers.get("upload-complete")


async def test_whole_and_again(fleet: Coordinator):
    assert await _state(fleet) == (404, "0", "?0")
    answer = await _put(fleet, DATA)
    assert (answer.status_code, answer.json()) == (
        201,
        {"sha256": NAME, "size_bytes": len(DATA), "stored": True},
    )
    assert _files(fleet) == {f"blobs/{NAME[:2]}/{NAME}": len(DATA)}
    assert await _state(fleet) == (200, str(len(DATA)), "?1")
    again = await _put(fleet, DATA)
    assert (again.status_code, again.json()["stored"]) == (200, False)
    assert await fleet.count("blobs") == 1


async def test_ranges_are_read(fleet: Coordinator):
    await _put(fleet, DATA)
    for role in ("agent", "operator"):
        answer = await fleet.http(role).get(PATH, headers={"Range": "bytes=1000-1999"})
        assert (answer.status_code, answer.content) == (206, DATA[1000:2000])
        assert answer.headers["content-range"] == f"bytes 1000-1999/{len(DATA)}"
    assert (await fleet.http("agent").get(PATH)).content == DATA
    assert (await fleet.http("viewer").get(PATH)).status_code == 403


async def test_in_parts(fleet: Coordinator):
    first = await _put(fleet, DATA[:2_000_000], **_range(0, 2_000_000))
    assert (first.status_code, first.json()["stored"]) == (200, False)
    assert await _state(fleet) == (200, "2000000", "?0")
    await refused(await fleet.http("agent").get(PATH), 404, "unknown_blob")
    assert await fleet.count("blobs") == 0
    last = await _put(fleet, DATA[2_000_000:], **_range(2_000_000, len(DATA)))
    assert (last.status_code, last.json()["stored"]) == (201, True)
    empty = await _put(fleet, b"", **_range(len(DATA), len(DATA)))
    assert (empty.status_code, empty.json()["stored"]) == (200, False)


async def test_a_part_goes_on_where_the_last_one_ended(fleet: Coordinator):
    await _put(fleet, DATA[:100], **_range(0, 100))
    for start in (99, 101):
        problem = await refused(
            await _put(fleet, DATA[start:200], **_range(start, 200)), 409, "upload_offset"
        )
        assert problem["current"] == {"offset": 100}
    assert (await _put(fleet, DATA)).status_code == 201, "from the start is always possible"


async def test_bytes_that_do_not_match_their_name_are_gone(fleet: Coordinator):
    problem = await refused(await _put(fleet, b"other"), 422, "digest_mismatch")
    assert digest(b"other") in problem["detail"]
    await _put(fleet, b"x" * 100, **_range(0, 100))
    await refused(await _put(fleet, DATA[100:], **_range(100, len(DATA))), 422, "digest_mismatch")
    assert _files(fleet) == {}
    assert await _state(fleet) == (404, "0", "?0")
    assert await fleet.count("blobs") == 0


async def test_a_part_that_was_changed_on_disk_is_found_out(fleet: Coordinator):
    await _put(fleet, DATA[:100], **_range(0, 100))
    (part,) = (fleet.data / "uploads").iterdir()
    part.write_bytes(b"y" * 100)
    await refused(await _put(fleet, DATA[100:], **_range(100, len(DATA))), 422, "digest_mismatch")
    assert _files(fleet) == {}


async def test_more_than_announced(fleet: Coordinator):
    await refused(await _put(fleet, DATA, **_range(0, 10)), 413, "too_large")
    assert _files(fleet) == {}
    await _put(fleet, DATA[:100], **_range(0, 100))
    await refused(await _put(fleet, DATA[100:300], **_range(100, 200)), 413, "too_large")
    assert await _state(fleet) == (200, "100", "?0"), "what came before stays"
    assert (await _put(fleet, DATA)).status_code == 201


@pytest.mark.parametrize(
    "content_range", ["bytes 5-1/10", "bytes 0-10/10", "bytes 0-9/*", "items 0-9/10", f"bytes 0-9/{10**19}"]
)
async def test_a_range_that_is_none(fleet: Coordinator, content_range: str):
    await refused(await _put(fleet, DATA[:10], **{"Content-Range": content_range}), 422, "invalid_request")


@pytest.mark.parametrize("name", ["A" * 64, "a" * 63, "..", "%2e%2e%2f" * 8])
async def test_a_name_that_is_no_digest(fleet: Coordinator, name: str):
    assert (await _put(fleet, DATA, name)).status_code in (404, 405, 422)
    assert _files(fleet) == {}


async def test_truncated_goes_on(fleet: Coordinator):
    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:2_000_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await fleet.http().put(PATH, content=broken(), headers={"Content-Length": str(len(DATA))})
    await until(lambda: not fleet.services.blobs.store.lock(NAME).locked())
    offset = int((await _state(fleet))[1] or 0)
    assert (await _put(fleet, DATA[offset:], **_range(offset, len(DATA)))).status_code == 201


async def test_two_at_once_store_it_once(fleet: Coordinator):
    answers = await asyncio.gather(_put(fleet, DATA), _put(fleet, DATA))
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert list(_files(fleet)) == [f"blobs/{NAME[:2]}/{NAME}"]
    assert await fleet.count("blobs") == 1


async def test_whoever_falls_silent_gives_way_and_what_it_brought_is_kept(tmp_path: Path):
    store = ContentStore(tmp_path, 2**40, patience=0.01)

    async def silent() -> AsyncIterator[bytes]:
        yield DATA[:100]
        await asyncio.Event().wait()

    whole = Part(0, len(DATA), len(DATA))
    async with store.lock(NAME):
        with pytest.raises(UploadOffset):
            await store.take(NAME, "place", whole, silent())
    assert store.received(NAME) == 100


async def test_more_than_the_disk_has_is_refused_before_it_is_sent(data: Path, clock: FakeClock):
    async with running(data, clock, max_artifact_bytes=2**60) as fleet:
        await refused(await _put(fleet, DATA[:10], **_range(0, 10, 2**55)), 507, "storage_full")
        assert _files(fleet) == {}


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has a device that is always full"
)
async def test_a_full_disk_keeps_nothing(fleet: Coordinator):
    part = fleet.data / "uploads" / f"{NAME}.part"
    part.symlink_to("/dev/full")
    await refused(await _put(fleet, DATA), 507, "storage_full")
    assert not part.is_symlink()
    assert _files(fleet) == {}
    assert await _state(fleet) == (404, "0", "?0")
    assert (await _put(fleet, DATA)).status_code == 201


async def test_a_blob_without_its_row_is_taken_up_again(fleet: Coordinator):
    """As after a crash between the two, or with an older copy of the database."""
    path = fleet.data / "blobs" / NAME[:2] / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert await _state(fleet) == (404, "0", "?0")
    assert (await _put(fleet, DATA)).status_code == 200
    assert await _state(fleet) == (200, str(len(DATA)), "?1")


async def test_a_blob_whose_file_is_gone_can_be_pushed_again(fleet: Coordinator):
    await _put(fleet, DATA)
    (fleet.data / "blobs" / NAME[:2] / NAME).unlink()
    assert (await _state(fleet))[0] == 404
    await refused(await fleet.http().get(PATH), 404, "unknown_blob")
    assert (await _put(fleet, DATA)).status_code == 201


# Checkpoints


@pytest.fixture
async def held(fleet: Coordinator) -> tuple[Worker, ClaimAnswer]:
    await fleet.load(manifest(job("trees")))
    worker = await fleet.worker()
    return worker, await worker.take()


async def _checkpoint(
    worker: Worker, held: ClaimAnswer, sha256: str = NAME, **changes: object
) -> httpx.Response:
    body = {"worker": worker.id, "sha256": sha256, **changes}
    path = f"/v1/attempt/{held.attempt}/checkpoint"
    return await worker.coordinator.http("agent").put(path, json=body)


async def _kinds(fleet: Coordinator) -> list[str]:
    return [event["kind"] for event in (await fleet.get("/v1/events"))["events"] if event["job"]]


async def test_a_checkpoint_reaches_the_next_attempt(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, first = held
    assert first.checkpoint is None
    await _put(fleet, DATA)
    answer = await _checkpoint(worker, first)
    assert answer.json() == {
        "job_id": first.job.job_id,
        "status": "running",
        "attempt": first.attempt,
        "reason": None,
    }
    assert (await _checkpoint(worker, first)).status_code == 200
    assert (await _kinds(fleet)).count("checkpointed") == 1, "repeating it writes nothing"
    found = await fleet.job("trees")
    assert (found["checkpoint"], found["history"][0]["checkpoint"]) == (NAME, NAME)
    await worker.say("release", first, reason="drained")
    claim_id = str(uuid4())
    second = await worker.claim(claim_id=claim_id)
    assert second is not None
    assert second.checkpoint == NAME
    assert await worker.claim(claim_id=claim_id) == second, "asking again gives the same answer"
    assert (await worker.finish(second)).json()["status"] == "completed"
    found = await fleet.job("trees")
    assert (found["checkpoint"], found["history"][0]["checkpoint"]) == (None, NAME)


async def test_a_checkpoint_has_to_be_there(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    before = await _kinds(fleet)
    await refused(await _checkpoint(*held), 409, "blob_missing")
    await _put(fleet, DATA[:100], **_range(0, 100))
    await refused(await _checkpoint(*held), 409, "blob_missing")
    assert (await fleet.job("trees"))["checkpoint"] is None
    assert await _kinds(fleet) == before


async def test_a_stale_attempts_checkpoint_changes_nothing(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, first = held
    await _put(fleet, DATA)
    await _put(fleet, b"newer", digest(b"newer"))
    stranger = await fleet.worker("other")
    await refused(await _checkpoint(stranger, first), 409, "stale_attempt")
    await worker.say("release", first, reason="drained")
    await refused(await _checkpoint(worker, first), 409, "stale_attempt")
    second = await stranger.take()
    assert (await _checkpoint(stranger, second)).status_code == 200
    await refused(await _checkpoint(worker, first, digest(b"newer")), 409, "stale_attempt")
    assert (await fleet.job("trees"))["checkpoint"] == NAME
    assert (await _checkpoint(stranger, second, digest(b"newer"))).status_code == 200
    assert (await fleet.job("trees"))["checkpoint"] == digest(b"newer")


async def test_a_checkpoint_of_nobody(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, first = held
    unknown = first.model_copy(update={"attempt": str(uuid4())})
    await refused(await _checkpoint(worker, unknown), 404, "unknown_attempt")
    await refused(await _checkpoint(worker, first, "nothing"), 422, "invalid_request")


@pytest.mark.parametrize(("again", "goes_on"), [(False, True), (True, False)])
async def test_what_an_operator_requeues(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer], again: bool, goes_on: bool
):
    worker, first = held
    await _put(fleet, DATA)
    await _checkpoint(worker, first)
    await worker.error(first, kind="refused")
    assert (await fleet.post("/v1/job/trees/requeue", {"again": again})).status_code == 200
    second = await worker.claim()
    assert second is not None
    assert second.checkpoint == (NAME if goes_on else None)


async def test_a_lost_lease_and_an_error_keep_the_checkpoint(
    fleet: Coordinator, clock: FakeClock, held: tuple[Worker, ClaimAnswer]
):
    worker, first = held
    await _put(fleet, DATA)
    await _checkpoint(worker, first)
    await worker.error(first)
    clock.advance(60)
    await worker.hello()
    second = await worker.take()
    assert second.checkpoint == NAME
    for _ in range(130):  # a coordinator that looks seldom takes it for its own pause
        clock.advance(5)
        await fleet.sweep.once()
    await worker.hello()
    clock.advance(60)
    await worker.hello()
    third = await worker.claim()
    assert third is not None
    assert third.checkpoint == NAME


async def test_a_checkpoint_that_is_gone_is_not_promised(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, first = held
    await _put(fleet, DATA)
    await _checkpoint(worker, first)
    await worker.say("release", first, reason="drained")
    await fleet.services.database.writer.run(
        lambda tx: tx.connection.exec_driver_sql("delete from blobs").close()
    )
    second = await worker.claim()
    assert second is not None
    assert second.checkpoint is None


async def test_a_restored_database_promises_no_checkpoint_that_was_deleted_since(
    data: Path, clock: FakeClock
):
    async with running(data, clock) as fleet:
        await fleet.load(manifest(job("trees")))
        worker = await fleet.worker()
        first = await worker.take()
        await _put(fleet, DATA)
        await _checkpoint(worker, first)
        await worker.say("release", first, reason="drained")
        (fleet.data / "blobs" / NAME[:2] / NAME).unlink()
    async with running(data, clock) as fleet:
        second = await (await fleet.worker("other")).claim()
        assert second is not None
        assert second.checkpoint is None
        assert await fleet.count("blobs") == 0


async def test_a_checkpoint_goes_when_its_job_needs_it_no_more(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, first = held
    names = [digest(data) for data in (b"one", b"two")]
    for data, name in zip((b"one", b"two"), names, strict=True):
        await _put(fleet, data, name)
        await _checkpoint(worker, first, name)
    await until(lambda: not (fleet.data / "blobs" / names[0][:2] / names[0]).exists())
    assert (await _state(fleet, names[1]))[2] == "?1"
    await worker.finish(first)
    await until(lambda: not (fleet.data / "blobs" / names[1][:2] / names[1]).exists())
    assert await fleet.count("blobs") == 0


async def test_a_checkpoint_that_two_jobs_have_stays(fleet: Coordinator):
    await fleet.load(manifest(job("one"), job("two", seed=1)))
    worker = await fleet.worker(max_jobs=2)
    one, two = await worker.take(), await worker.take()
    await _put(fleet, DATA)
    await _put(fleet, b"newer", digest(b"newer"))
    for held in (one, two):
        await _checkpoint(worker, held)
    await _checkpoint(worker, one, digest(b"newer"))
    assert not await fleet.services.blobs.remove(NAME)
    assert (await _state(fleet))[2] == "?1"
    await worker.finish(two)
    await until(lambda: not (fleet.data / "blobs" / NAME[:2] / NAME).exists())


# What a manifest's jobs are made of

TOML = (
    OWN
    + """[[jobs]]
name = "trees"
model = "gbt"
"""
)


def _body(data: bytes, source: bytes) -> dict[str, object]:
    return {"toml": TOML, "file": "m.toml", "blobs": {"rows": digest(data), "src": digest(source)}}


async def test_a_reload_waits_for_what_nobody_could_fetch(fleet: Coordinator):
    body = _body(b"data", b"source")
    assert (await fleet.post("/v1/manifest/plan", body)).status_code == 200, "a plan needs no data"
    before = await fleet.count("events")
    problem = await refused(await fleet.post("/v1/manifest/reload", body), 409, "blob_missing")
    assert {(item["message"], item["key"]) for item in problem["errors"]} == {
        ("rows", digest(b"data")),
        ("src", digest(b"source")),
    }
    await _put(fleet, b"data", digest(b"data"))
    problem = await refused(await fleet.post("/v1/manifest/reload", body), 409, "blob_missing")
    assert [item["message"] for item in problem["errors"]] == ["src"]
    assert (await fleet.count("jobs"), await fleet.count("events")) == (0, before), "nothing was changed"
    await _put(fleet, b"source", digest(b"source"))
    assert (await fleet.post("/v1/manifest/reload", body)).status_code == 200
    assert await fleet.count("jobs") == 2


async def test_what_is_trained_already_needs_no_data(fleet: Coordinator):
    body = _body(b"data", b"source")
    for data in (b"data", b"source"):
        await _put(fleet, data, digest(data))
    await fleet.post("/v1/manifest/reload", body)
    worker = await fleet.worker(commands=True, datasets=True)
    path = fleet.data / "blobs" / digest(b"data")[:2] / digest(b"data")
    path.unlink()
    await refused(await fleet.post("/v1/manifest/reload", body), 409, "blob_missing")
    await worker.finish(await worker.take())
    assert (await fleet.post("/v1/manifest/reload", body)).json()["changed"] is False


async def test_the_coordinators_own_manifest_brings_its_own_data(
    data: Path, clock: FakeClock, tmp_path: Path
):
    (tmp_path / "rows").write_bytes(b"rows")
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "train.py").write_text("print()")
    own = tmp_path / "m.toml"
    own.write_text(TOML)
    async with running(data, clock, manifest=own) as fleet:
        worker = await fleet.worker(commands=True, datasets=True)
        held = await worker.take()
        assert held.job.dataset is not None
        assert held.job.program is not None
        assert held.job.program.source == content_digest(tmp_path / "src")
        for sha256 in (held.job.dataset.sha256, held.job.program.source):
            answer = await fleet.http("agent").get(f"/v1/blob/{sha256}")
            assert digest(answer.content) == sha256
        (tmp_path / "rows").write_bytes(b"more rows")
        assert (await fleet.post("/v1/manifest/reload")).json()["changed"] is True
        assert await fleet.count("blobs") == 3


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has a device that is always full"
)
async def test_a_coordinator_without_room_for_its_data_serves_what_it_has(
    data: Path, clock: FakeClock, tmp_path: Path
):
    (tmp_path / "rows").write_bytes(b"rows")
    (tmp_path / "src").mkdir()
    own = tmp_path / "m.toml"
    own.write_text(TOML)
    part = data / "uploads" / f"{digest(b'rows')}.part"
    part.parent.mkdir()
    part.symlink_to("/dev/full")
    async with running(data, clock, manifest=own) as fleet:
        assert await fleet.count("jobs") == 0
        assert (await fleet.post("/v1/manifest/reload")).status_code == 200
        assert await fleet.count("jobs") == 2


async def test_of_two_that_wait_the_one_with_the_data_gets_the_job(fleet: Coordinator):
    able = {"commands": True, "datasets": True, "ram_gib": 8}
    tight = await fleet.worker("tight", **able)
    holder = await fleet.worker("holder", **{**able, "ram_gib": 64})
    async with asyncio.TaskGroup() as group:
        claims = [
            group.create_task(tight.claim(wait=30)),
            group.create_task(holder.claim(wait=30, holds=[digest(b"data")])),
        ]
        await until(lambda: len(fleet.services.matching._waiting) == 2)
        for data in (b"data", b"source"):
            await _put(fleet, data, digest(data))
        await fleet.post("/v1/manifest/reload", _body(b"data", b"source"))
    given = {claim.result().job.name: number for number, claim in enumerate(claims)}
    assert given == {"mine": 1, "trees": 0}
