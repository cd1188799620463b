"""Late results, training anew, packing, preferences, and what a plan says of all that: over HTTP, on both engines."""

from __future__ import annotations

import asyncio

import pytest

from fleet_protocol.ids import Sha256
from fleet_protocol.manifest import parse
from tests.server.coordinator import Coordinator, digest, job, jobs, manifest, refused, until

CARD = {"kind": "cuda", "name": "card", "vram_gib": 24.0}
SMALL = {"kind": "cuda", "name": "small", "vram_gib": 8.0}
OWN = """schema_version = 1
[datasets.watch]
path = "data"
[models.mine]
command = ["python", "train.py", "--lr", "{hyper.lr}"]
source = "src"
[[jobs]]
name = "mine"
model = "mine"
matrix = { lr = [0.1, 0.01] }
dataset = "watch"
"""


async def time_passes(fleet: Coordinator, seconds: int) -> None:
    """In steps: a coordinator that looks after a long pause blames nobody for it."""
    for _ in range(seconds // 10):
        fleet.clock.advance(10)
        await fleet.sweep.once()


def blobs(data: str, source: str) -> dict[str, Sha256]:
    return {"data": Sha256(digest(data.encode())), "src": Sha256(digest(source.encode()))}


async def push(fleet: Coordinator, *contents: str) -> None:
    for content in contents:
        await fleet.http().put(f"/v1/blob/{digest(content.encode())}", content=content.encode())


async def test_a_late_result_counts_only_by_the_operators_word(fleet: Coordinator):
    await fleet.load(manifest(job("late", max_attempts=1)))
    slow = await fleet.worker("slow")
    held = await slow.take()
    await time_passes(fleet, 610)
    other = await fleet.worker("other")
    assert (await other.error(await other.take())).json()["status"] == "failed"
    answer = await slow.finish(held, metrics={"accuracy": {"value": 0.9}})
    await refused(answer, 409, "stale_attempt")
    assert (await fleet.job("late"))["status"] == "failed"
    accepted = await fleet.post("/v1/job/late/accept-result", {"reason": "it is good"})
    assert accepted.json()["status"] == "completed"
    after = await fleet.job("late")
    assert (after["artifact"], after["worker"], after["attempt"]) == (
        digest(b"weights"),
        "slow",
        held.attempt,
    )
    assert after["metrics"]["accuracy"]["value"] == 0.9
    assert [entry["status"] for entry in after["history"]] == ["completed", "failed"]
    await refused(await fleet.post("/v1/job/late/accept-result"), 409, "wrong_state")


async def test_nobody_speaks_of_anothers_artifact(fleet: Coordinator):
    await fleet.load(manifest(job("mine")))
    mine, thief = await fleet.worker("mine"), await fleet.worker("thief")
    held = await mine.take()
    await mine.upload(held, b"weights")
    told = {"artifact": digest(b"weights"), "metrics": {"accuracy": {"value": 1.0}}}
    await refused(await thief.say("complete", held, **told), 409, "stale_attempt")
    await mine.say("release", held, reason="drained")
    await fleet.post("/v1/job/mine/cancel")
    assert (await fleet.post("/v1/job/mine/accept-result")).json()["metrics"] == {}


async def test_nothing_late_to_accept_and_never_while_it_runs(fleet: Coordinator):
    await fleet.load(manifest(job("one")))
    await refused(await fleet.post("/v1/job/one/accept-result"), 409, "artifact_missing")
    worker = await fleet.worker()
    held = await worker.take()
    await worker.upload(held, b"weights")
    await refused(await fleet.post("/v1/job/one/accept-result"), 409, "wrong_state")
    assert (await fleet.job("one"))["status"] == "running"


async def test_training_anew_is_a_new_generation_and_keeps_the_old_artifact(fleet: Coordinator):
    await fleet.load(manifest(job("done")))
    worker = await fleet.worker()
    await worker.finish(await worker.take(), b"first")
    problem = await refused(await fleet.post("/v1/job/done/requeue"), 409, "wrong_state")
    assert problem["next"].startswith("fleet requeue --again ")
    assert (await fleet.post("/v1/job/done/requeue", {"again": True})).json()["status"] == "pending"
    assert (await fleet.job("done"))["artifact"] == digest(b"first")
    await worker.finish(await worker.take(), b"second")
    assert (await fleet.job("done"))["artifact"] == digest(b"second")
    kept = {entry["sha256"] for entry in (await fleet.get("/v1/models"))["models"]}
    assert kept == {digest(b"first"), digest(b"second")}


async def test_a_plan_tells_what_other_code_trained(fleet: Coordinator):
    text = manifest(job("old", priority=1), job("new", seed=1))
    await fleet.load(text)
    worker = await fleet.worker(trainer="1")
    for version in ("1", "2"):
        await worker.finish(await worker.take(), version.encode(), provenance={"trainer": version})
    plan = (await fleet.post("/v1/manifest/plan", {"toml": text})).json()
    assert {entry["name"]: entry["other_code"] for entry in plan["entries"]} == {"old": False, "new": True}


async def test_own_programs_are_known_by_their_content_and_go_where_commands_may_run(fleet: Coordinator):
    await push(fleet, "a", "1")
    body = {"toml": OWN, "file": "m.toml", "blobs": blobs("a", "1")}
    plan = (await fleet.post("/v1/manifest/reload", body)).json()
    assert [entry["name"] for entry in plan["entries"]] == ["mine/lr=0.1", "mine/lr=0.01"]
    local = parse(OWN, contents=blobs("a", "1"))
    assert [entry["job_id"] for entry in plan["entries"]] == [spec.job_id for spec in local.jobs]
    changed = (await fleet.post("/v1/manifest/plan", {**body, "blobs": blobs("b", "2")})).json()
    assert {tuple(entry["differs"]) for entry in changed["entries"]} == {("dataset", "source")}
    assert await (await fleet.worker("strict")).claim() is None
    fits = (await fleet.get(f"/v1/job/{local.jobs[0].job_id}/explain"))["workers"]
    assert [refusal["code"] for refusal in fits[0]["refusals"]] == ["no_commands", "no_datasets"]
    held = await (await fleet.worker("open", commands=True, datasets=True)).claim()
    assert held is not None
    assert held.job.program is not None
    assert held.job.program.source == blobs("a", "1")["src"]
    problem = await refused(await fleet.post("/v1/manifest/plan", {"toml": OWN}), 422, "invalid_manifest")
    assert {entry["key"] for entry in problem["errors"]} == {"datasets.watch.path", "models.mine.source"}


async def test_nobody_trains_other_data_than_the_manifests_data_set(fleet: Coordinator):
    plain = job("plain", seed=1)
    text = manifest(job("ours", dataset="watch", priority=1), plain) + '\n[datasets.watch]\npath = "data"\n'
    worker = await fleet.worker()
    await push(fleet, "a")
    plan = (await fleet.post("/v1/manifest/reload", {"toml": text, "blobs": blobs("a", "1")})).json()
    assert {entry["name"]: entry["unsatisfiable"] for entry in plan["entries"]} == {
        "ours": "no worker can take it: box: does not fetch the manifest's data sets",
        "plain": None,
    }
    told = await fleet.get("/v1/job/ours/explain")
    assert [refusal["code"] for refusal in told["workers"][0]["refusals"]] == ["no_datasets"]
    assert told["relaxation"] is None
    assert (await worker.take()).job.name == "plain"
    able = await fleet.worker("able", datasets=True)
    assert (await able.take()).job.name == "ours"


async def test_what_a_worker_trains_is_reserved(fleet: Coordinator):
    wanted = jobs(4, min_cores=2, min_ram_gib=6, require_cuda=True)
    await fleet.load(manifest(*wanted))
    worker = await fleet.worker(max_jobs=4, cores=8, ram_gib=16, gpus=[CARD, SMALL])
    one, two = await worker.take(), await worker.take()
    assert await worker.claim() is None
    fit = (await fleet.get("/v1/job/job 002/explain"))["workers"][0]
    assert {refusal["code"]: refusal["offered"] for refusal in fit["refusals"]} == {
        "too_little_ram": "4 GiB RAM",
        "too_few_gpus": "0 GPUs",
    }
    await worker.finish(one)
    assert await worker.claim() is not None
    await worker.finish(two)


async def test_what_ends_makes_room_for_a_claim_that_waits(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2, min_cores=8)))
    worker = await fleet.worker(max_jobs=2, cores=8)
    held = await worker.take()
    waiting = asyncio.ensure_future(worker.claim(wait=30))
    await until(lambda: fleet.services.matching._waiting)
    await worker.finish(held)
    assert await waiting is not None


async def test_a_small_job_takes_the_small_card(fleet: Coordinator):
    large = job("large", require_cuda=True, min_vram_gib=16, seed=1)
    await fleet.load(manifest(job("small", require_cuda=True, min_vram_gib=4, priority=1), large))
    worker = await fleet.worker(max_jobs=2, gpus=[CARD, SMALL])
    assert [(await worker.take()).job.name for _ in range(2)] == ["small", "large"]


async def test_explain_says_for_whom_a_job_is_kept_and_until_when(fleet: Coordinator):
    await fleet.load(manifest(job("soft", prefer_cuda=True, prefer_wait=60)))
    cpu = await fleet.worker("cpu")
    gpu = await fleet.worker("gpu", gpus=[CARD], cores=4)
    assert await cpu.claim() is None
    told = await fleet.get("/v1/job/soft/explain")
    kept = {entry["worker"]: entry["kept"] for entry in told["workers"]}
    assert kept == {"cpu": "kept for CUDA on gpu until 2026-01-01T12:01:00.000Z", "gpu": None}
    fleet.clock.advance(60)
    await gpu.hello()
    assert (await cpu.take()).job.name == "soft"


async def test_a_retry_does_not_start_the_wait_for_cuda_anew(fleet: Coordinator):
    await fleet.load(manifest(job("soft", prefer_cuda=True, prefer_wait=60)))
    cpu, gpu = await fleet.worker("cpu"), await fleet.worker("gpu", gpus=[CARD])
    fleet.clock.advance(50)
    await gpu.hello()
    await gpu.say("release", await gpu.take(), reason="drained")
    fleet.clock.advance(10)
    await gpu.hello()
    assert (await cpu.take()).job.name == "soft"


@pytest.mark.parametrize(
    ("needs", "key", "suggested"),
    [
        ({"min_ram_gib": 64}, "min_ram_gib", "32"),
        ({"min_cores": 12}, "min_cores", "8"),
        ({"require_cuda": True, "min_vram_gib": 24}, "min_vram_gib", "8"),
        ({"require_cuda": True, "gpus": 2}, "gpus", "1"),
        ({"denied_hosts": ["box"]}, "denied_hosts", "[]"),
        ({"allowed_hosts": ["x"]}, "allowed_hosts", "[x, box]"),
    ],
)
async def test_the_smallest_change_that_would_admit_it(
    fleet: Coordinator, needs: dict[str, object], key: str, suggested: str
):
    await fleet.load(manifest(job("wants", **needs)))
    await fleet.worker("box", gpus=[SMALL], cores=8, ram_gib=32)
    told = (await fleet.get("/v1/job/wants/explain"))["relaxation"]
    assert (told["worker"], told["key"], told["suggested"]) == ("box", key, suggested)


async def test_no_single_change_is_enough_or_none_is_needed(fleet: Coordinator):
    await fleet.load(manifest(job("far", min_cores=99, min_ram_gib=999), job("near", seed=1)))
    await fleet.worker("box")
    assert (await fleet.get("/v1/job/far/explain"))["relaxation"] is None
    assert (await fleet.get("/v1/job/near/explain"))["relaxation"] is None


async def test_a_job_may_have_a_lease_of_its_own(fleet: Coordinator):
    await fleet.load(manifest(job("patient", lease=3600), job("hasty", lease=10, seed=1)))
    worker = await fleet.worker(max_jobs=2)
    held = [await worker.take(), await worker.take()]
    assert sorted(answer.lease_seconds for answer in held) == [10, 3600]
    told = [(await worker.say("heartbeat", answer)).json()["lease_seconds"] for answer in held]
    assert sorted(told) == [10, 3600]
    await time_passes(fleet, 700)
    assert (await fleet.job("patient"))["status"] == "running"
    assert (await fleet.job("hasty"))["status"] == "pending"


async def test_what_failed_where_and_how_much_memory_it_wants(fleet: Coordinator):
    await fleet.load(manifest(job("hungry", max_attempts=3)))
    worker = await fleet.worker("gpu", gpus=[SMALL])
    await worker.error(
        await worker.take(), "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    )
    (view,) = (await fleet.get("/v1/workers"))["workers"]
    (count,) = view["failures"]
    assert (count["name"], count["count"], count["suggestion"]) == ("hungry", 1, "min_vram_gib = 9")


async def test_the_history_of_a_job_in_its_explanation(fleet: Coordinator):
    await fleet.load(manifest(job("told")))
    worker = await fleet.worker()
    await worker.finish(await worker.take())
    timeline = (await fleet.get("/v1/job/told/explain"))["timeline"]
    assert [entry["kind"] for entry in timeline] == ["queued", "claimed", "started", "completed"]
    assert timeline[1]["worker"] == "box"
