"""Uploads: whole, in parts, wrong, twice; and what is to be seen of them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from fleet_protocol.ids import Sha256
from fleet_protocol.workers import ClaimAnswer
from tests.server.coordinator import Coordinator, Worker, digest, job, jobs, manifest, refused, until

DATA = os.urandom(300_000)
NAME = Sha256(digest(DATA))


@pytest.fixture
async def held(fleet: Coordinator) -> tuple[Worker, ClaimAnswer]:
    await fleet.load(manifest(job("trees", mode="oracle")))
    worker = await fleet.worker()
    return worker, await worker.take()


async def _head(worker: Worker, attempt: ClaimAnswer, name: str = NAME) -> httpx.Response:
    return await worker.coordinator.http("agent").head(f"/v1/model/{name}?attempt={attempt.attempt}")


def _lines(fleet: Coordinator) -> list[dict[str, object]]:
    index = fleet.data / "models" / "index.jsonl"
    return [json.loads(line) for line in index.read_text().splitlines()] if index.exists() else []


def _files(fleet: Coordinator) -> set[str]:
    folders = (fleet.data / "models", fleet.data / "uploads")
    return {str(f.relative_to(fleet.data)) for folder in folders for f in folder.rglob("*") if f.is_file()}


async def test_whole(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    assert (await _head(worker, attempt)).status_code == 404
    answer = await worker.upload(attempt, DATA)
    assert answer.status_code == 201
    assert answer.json() == {"sha256": NAME, "size_bytes": len(DATA), "stored": True}
    place = f"models/gbt_oracle/{NAME}/bundle.tar.zst"
    assert (fleet.data / place).read_bytes() == DATA
    assert _files(fleet) == {place, "models/index.jsonl"}
    (line,) = _lines(fleet)
    assert line == {
        "sha256": NAME,
        "size_bytes": len(DATA),
        "path": place,
        "job_id": attempt.job.job_id,
        "job": "trees",
        "attempt": attempt.attempt,
        "worker": "box",
        "uploaded_at": "2026-01-01T12:00:00.000Z",
    }
    head = await _head(worker, attempt)
    assert (head.status_code, head.headers["upload-complete"]) == (200, "?1")


async def test_it_is_given_out_again_in_whole_and_in_part(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    await held[0].upload(held[1], DATA)
    assert (await fleet.http("viewer").get(f"/v1/model/{NAME}")).content == DATA
    part = await fleet.http("viewer").get(f"/v1/model/{NAME}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, DATA[10:20])
    await refused(await fleet.http("viewer").get(f"/v1/model/{digest(b'')}"), 404, "unknown_model")
    (listed,) = (await fleet.get("/v1/models"))["models"]
    assert (listed["sha256"], listed["worker"], listed["attempt"]) == (NAME, "box", held[1].attempt)


async def test_resumed(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    total = len(DATA)
    first = await worker.upload(attempt, DATA[:100], name=NAME, **{"Content-Range": f"bytes 0-99/{total}"})
    assert (first.status_code, first.json()["size_bytes"]) == (200, 100)
    head = await _head(worker, attempt)
    assert (head.headers["upload-offset"], head.headers["upload-complete"]) == ("100", "?0")
    await refused(await fleet.http().get(f"/v1/model/{NAME}"), 404, "unknown_model")
    rest = await worker.upload(
        attempt, DATA[100:], name=NAME, **{"Content-Range": f"bytes 100-{total - 1}/{total}"}
    )
    assert rest.status_code == 201
    assert (await fleet.http().get(f"/v1/model/{NAME}")).content == DATA


async def test_from_the_wrong_offset(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    await worker.upload(attempt, DATA[:100], name=NAME, **{"Content-Range": f"bytes 0-99/{len(DATA)}"})
    for start in (99, 101):
        headers = {"Content-Range": f"bytes {start}-{start + 9}/{len(DATA)}"}
        problem = await refused(
            await worker.upload(attempt, DATA[:10], name=NAME, **headers), 409, "upload_offset"
        )
        assert problem["current"] == {"offset": 100}
    again = await worker.upload(attempt, DATA)
    assert again.status_code == 201, "from the start is always possible"


async def test_a_connection_that_breaks_leaves_what_arrived(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, attempt = held

    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:200_000]
        raise ConnectionResetError

    path = f"/v1/model/{NAME}?attempt={attempt.attempt}"
    headers = {"Content-Length": str(len(DATA))}
    with pytest.raises(ConnectionResetError):
        await fleet.http("agent").put(path, content=broken(), headers=headers)
    await until(lambda: not fleet.services.artifacts.store.lock(NAME).locked())
    offset = int((await _head(worker, attempt)).headers["upload-offset"])
    headers = {"Content-Range": f"bytes {offset}-{len(DATA) - 1}/{len(DATA)}"}
    assert (await worker.upload(attempt, DATA[offset:], name=NAME, **headers)).status_code == 201


async def test_bytes_that_do_not_match_their_name(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    before = _files(fleet)
    problem = await refused(await worker.upload(attempt, b"other", name=NAME), 422, "digest_mismatch")
    assert digest(b"other") in problem["detail"]
    assert _files(fleet) == before
    assert (await _head(worker, attempt)).status_code == 404
    assert (await fleet.get("/v1/models"))["models"] == []
    await refused(await worker.say("complete", attempt, artifact=NAME), 409, "artifact_missing")
    assert (await worker.upload(attempt, DATA)).status_code == 201


async def test_more_than_announced_and_more_than_allowed(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, attempt = held
    headers = {"Content-Range": "bytes 0-9/10"}
    await refused(await worker.upload(attempt, DATA, name=NAME, **headers), 413, "too_large")
    headers = {"Content-Range": f"bytes 0-9/{2**50}"}
    await refused(await worker.upload(attempt, DATA, name=NAME, **headers), 413, "too_large")
    assert (await fleet.get("/v1/models"))["models"] == []


async def test_a_body_of_unknown_length(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    async def chunks() -> AsyncIterator[bytes]:
        yield DATA

    path = f"/v1/model/{NAME}?attempt={held[1].attempt}"
    await refused(await fleet.http("agent").put(path, content=chunks()), 422, "invalid_request")


async def test_twice_by_one_attempt_is_one_upload(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    worker, attempt = held
    await worker.upload(attempt, DATA)
    again = await worker.upload(attempt, DATA)
    assert (again.status_code, again.json()["stored"]) == (200, False)
    assert len(_lines(fleet)) == len((await fleet.get("/v1/models"))["models"]) == 1


async def test_the_same_bytes_of_two_attempts_are_stored_once_and_noted_twice(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker = await fleet.worker(max_jobs=2)
    one, two = [await worker.take() for _ in range(2)]
    statuses = sorted(
        answer.status_code
        for answer in await asyncio.gather(worker.upload(one, DATA), worker.upload(two, DATA))
    )
    assert statuses in ([200, 201], [201, 201])  # both may have been under way
    assert len([path for path in _files(fleet) if path.endswith(".zst")]) == 1
    assert {line["attempt"] for line in _lines(fleet)} == {one.attempt, two.attempt}
    for held in (one, two):
        assert (await worker.say("complete", held, artifact=NAME)).status_code == 200


async def test_an_empty_bundle_completes(fleet: Coordinator, held: tuple[Worker, ClaimAnswer]):
    assert (await held[0].finish(held[1], b"")).json()["status"] == "completed"


async def test_a_stale_attempts_artifact_is_kept_as_evidence(
    fleet: Coordinator, held: tuple[Worker, ClaimAnswer]
):
    worker, attempt = held
    await worker.say("release", attempt, reason="drained")
    assert (await worker.upload(attempt, DATA)).status_code == 201
    await refused(await worker.say("complete", attempt, artifact=NAME), 409, "stale_attempt")


async def test_an_upload_of_nobody(fleet: Coordinator):
    answer = await fleet.http("agent").put(f"/v1/model/{NAME}?attempt={uuid4()}", content=DATA)
    await refused(answer, 404, "unknown_attempt")
    assert (await fleet.http("agent").head(f"/v1/model/{NAME}?attempt={uuid4()}")).status_code == 404
    await refused(await fleet.http("agent").put(f"/v1/model/{NAME}", content=DATA), 422, "invalid_request")
