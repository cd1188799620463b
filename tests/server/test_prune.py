"""Prune: what nothing refers to is told, then deleted, and nothing else is."""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import pytest

from fleet_protocol.ids import Sha256
from tests.server.coordinator import OWN, Coordinator, FakeClock, Worker, digest, job, manifest, refused

HOUR = 3700
STRAYS = [("logs", "log"), ("logs", "rows"), ("metrics", "jsonl")]


async def put(fleet: Coordinator, data: bytes) -> str:
    assert (await fleet.http().put(f"/v1/blob/{digest(data)}", content=data)).status_code == 201
    return digest(data)


async def prune(fleet: Coordinator, **options: bool) -> list[tuple[str, str, int]]:
    answer = await fleet.post("/v1/prune", options)
    assert answer.status_code == 200, answer.text
    assert answer.json()["dry_run"] is options.get("dry_run", True)
    return [(item["kind"], item["id"], item["size_bytes"]) for item in answer.json()["items"]]


async def there(fleet: Coordinator, sha256: str, kind: str = "blob") -> bool:
    role: Any = "operator"
    return (await fleet.http(role).get(f"/v1/{kind}/{sha256}")).status_code == 200


async def reload(fleet: Coordinator, data: str, source: str) -> None:
    body = {"toml": OWN, "blobs": {"rows": data, "src": source}}
    assert (await fleet.post("/v1/manifest/reload", body)).status_code == 200


async def able(fleet: Coordinator) -> Worker:
    return await fleet.worker(commands=True, datasets=True)


async def test_nothing_is_there(fleet: Coordinator):
    assert await prune(fleet) == await prune(fleet, dry_run=False) == []


async def test_a_blob_that_nobody_names_goes_after_a_while(fleet: Coordinator, clock: FakeClock):
    name = await put(fleet, b"pushed by mistake")
    assert await prune(fleet) == [], "a reload may be on its way"
    clock.advance(HOUR)
    assert await prune(fleet) == [("blob", name, 17)]
    assert await there(fleet, name), "it was only asked"
    assert await prune(fleet, dry_run=False) == [("blob", name, 17)]
    assert not await there(fleet, name)
    assert await prune(fleet, dry_run=False) == []
    assert await fleet.count("blobs") == 0
    await put(fleet, b"pushed by mistake")


async def test_what_the_manifests_jobs_are_made_of_stays(fleet: Coordinator, clock: FakeClock):
    data, source = await put(fleet, b"data"), await put(fleet, b"source")
    await reload(fleet, data, source)
    worker = await able(fleet)
    await worker.finish(await worker.take())
    clock.advance(HOUR)
    assert await prune(fleet, dry_run=False) == [], "it may be trained again"
    newer = await put(fleet, b"newer data")
    await reload(fleet, newer, source)
    clock.advance(HOUR)
    assert await prune(fleet, dry_run=False) == [("blob", data, 4)]
    assert await there(fleet, newer)
    assert await there(fleet, source)


async def test_what_a_removed_job_still_needs_stays_until_it_is_over(fleet: Coordinator, clock: FakeClock):
    data, source = await put(fleet, b"data"), await put(fleet, b"source")
    await reload(fleet, data, source)
    await fleet.load(manifest(job("another")))
    clock.advance(HOUR)
    assert await prune(fleet, dry_run=False) == []
    await fleet.post("/v1/job/mine/cancel")
    assert sorted(await prune(fleet, dry_run=False)) == sorted([("blob", data, 4), ("blob", source, 6)])


async def test_a_checkpoint_stays_while_its_job_may_go_on_from_it(fleet: Coordinator, clock: FakeClock):
    await fleet.load(manifest(job("trees")))
    worker = await fleet.worker()
    held = await worker.take()
    name = await put(fleet, b"half way")
    body = {"worker": worker.id, "sha256": name}
    await fleet.http("agent").put(f"/v1/attempt/{held.attempt}/checkpoint", json=body)
    await worker.error(held, kind="refused")
    clock.advance(HOUR)
    assert await prune(fleet, dry_run=False) == [], "failed, but it may be requeued"


async def test_an_artifact_goes_once_nobody_can_want_it(fleet: Coordinator, clock: FakeClock):
    await fleet.load(manifest(job("trees"), job("waiting", seed=1)))
    worker = await fleet.worker()
    first = await worker.take()
    late = digest(b"late")
    await worker.upload(first, b"late")
    await worker.say("release", first, reason="drained")
    clock.advance(HOUR)
    await worker.hello()
    assert await prune(fleet, dry_run=False) == [], "the operator may accept it"
    again = await worker.take()
    assert again.job == first.job
    await worker.finish(again, b"good")
    clock.advance(HOUR)
    assert await prune(fleet, dry_run=False) == [("artifact", late, 4)]
    assert not await there(fleet, late, "model")
    assert await there(fleet, digest(b"good"), "model")
    assert [entry["sha256"] for entry in (await fleet.get("/v1/models"))["models"]] == [digest(b"good")]
    assert [path.name for path in (fleet.data / "models" / "gbt_realistic").iterdir()] == [digest(b"good")]
    assert (await worker.upload(first, b"late")).status_code == 201, "and it may come again"


async def test_an_artifact_that_two_jobs_share_stays(fleet: Coordinator, clock: FakeClock):
    await fleet.load(manifest(job("one"), job("two", seed=1)))
    worker = await fleet.worker()
    for _ in range(2):
        await worker.finish(await worker.take(), b"same")
    await fleet.post("/v1/job/one/requeue", {"again": True})
    await worker.finish(await worker.take(), b"other")
    clock.advance(HOUR)
    assert await prune(fleet, dry_run=False) == []
    await fleet.post("/v1/job/two/requeue", {"again": True})
    assert await prune(fleet, dry_run=False) == [], "the old artifact stays until there is a new one"
    await worker.finish(await worker.take(), b"another")
    assert await prune(fleet, dry_run=False) == [("artifact", digest(b"same"), 4)]


async def test_what_a_crash_left_behind_goes(fleet: Coordinator):
    orphan, part = digest(b"orphan"), digest(b"never finished")
    for place, size in ((f"blobs/{orphan[:2]}/{orphan}", 6), (f"uploads/{part}.part", 3)):
        (fleet.data / place).parent.mkdir(parents=True, exist_ok=True)
        (fleet.data / place).write_bytes(b"x" * size)
    assert await prune(fleet, dry_run=False) == []
    for path in (fleet.data / "blobs" / orphan[:2] / orphan, fleet.data / "uploads" / f"{part}.part"):
        os.utime(path, (0, 0))
    assert await prune(fleet, dry_run=False) == [("blob", orphan, 6), ("upload", part, 3)]
    assert await prune(fleet, dry_run=False) == []


async def test_an_upload_under_way_is_left_alone(fleet: Coordinator):
    part = fleet.data / "uploads" / f"{digest(b'slow')}.part"
    part.write_bytes(b"sl")
    os.utime(part, (0, 0))
    async with fleet.services.blobs.store.lock(Sha256(digest(b"slow"))):
        assert await prune(fleet, dry_run=False) == []
    assert part.exists()


@pytest.mark.parametrize("role", ["viewer", "agent", None])
async def test_only_an_operator_prunes(fleet: Coordinator, role: Any):
    assert (await fleet.http(role).post("/v1/prune", json={"dry_run": False})).status_code in (401, 403)


async def test_a_body_that_says_something_else(fleet: Coordinator):
    await refused(await fleet.post("/v1/prune", {"dryrun": False}), 422, "invalid_request")


async def test_files_of_attempts_that_a_restored_database_does_not_know(fleet: Coordinator):
    await fleet.load(manifest(job("trees")))
    worker = await fleet.worker()
    held = await worker.take()
    await worker.log(held, 0, b"a line\n")
    stray = str(uuid4())
    files = [fleet.data / kind / stray[:2] / f"{stray}.{end}" for kind, end in STRAYS]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 5000)
    assert await prune(fleet, dry_run=False) == [], "just written"
    for path in fleet.data.glob("*/??/*.*"):
        os.utime(path, (0, 0))
    found = await prune(fleet, dry_run=False)
    assert [(kind, name) for kind, name, _ in found] == [("log", stray), ("metrics", stray)]
    assert all(size >= 5000 for _, _, size in found)
    assert not any(path.exists() for path in files)
    log = await fleet.http().get("/v1/job/trees/log")
    assert log.content == b"a line\n", "the attempt that is known keeps its own"
    assert await prune(fleet, dry_run=False) == []
