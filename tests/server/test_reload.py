"""Applying a manifest: exactly what the plan says, all of it or nothing, and nothing where nothing changed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.server.coordinator import Coordinator, FakeClock, job, jobs, manifest, refused, running

KEPT = job("kept", seed=1)
ODD = job("ödd", model="mlp", seed=5, min_ram_gib=0.5, allowed_hosts=["b", "a"], hyper={"lr": 1e-05})


async def _rows(fleet: Coordinator) -> tuple[int, ...]:
    return tuple([await fleet.count(table) for table in ("jobs", "attempts", "events", "manifests")])


async def test_an_unchanged_manifest_writes_nothing(fleet: Coordinator):
    text = manifest(*jobs(3), ODD, hosts={"box": {"deny_jobs": ["gbt"]}})
    assert (await fleet.load(text))["changed"] is True
    before = await _rows(fleet)
    fleet.clock.advance(60)
    plan = await fleet.load(text)
    assert plan["changed"] is False
    assert {entry["category"] for entry in plan["entries"]} == {"pending"}
    assert await _rows(fleet) == before
    assert {view["updated_at"] for view in (await fleet.get("/v1/jobs"))["jobs"]} == {
        "2026-01-01T12:00:00.000Z"
    }


async def test_another_name_of_the_same_text_is_no_change(fleet: Coordinator):
    body = {"toml": manifest(KEPT), "file": "a.toml"}
    await fleet.post("/v1/manifest/reload", body)
    before = await _rows(fleet)
    again = {**body, "file": "./a.toml"}
    assert (await fleet.post("/v1/manifest/plan", again)).json()["changed"] is False
    assert (await fleet.post("/v1/manifest/reload", again)).json()["changed"] is False
    assert await _rows(fleet) == before


async def test_the_queue_follows_the_manifest(fleet: Coordinator):
    names = [f"job {seed}" for seed in range(8)]
    await fleet.load(manifest(*(job(name, seed=seed) for seed, name in enumerate(names))))
    assert [view["name"] for view in (await fleet.get("/v1/jobs", sort="queued"))["jobs"]] == names
    worker = await fleet.worker(max_jobs=8)
    assert [(await worker.take()).job.name for _ in names] == names


async def test_applying_it_again_trains_nothing_twice(fleet: Coordinator):
    text = manifest(*jobs(3))
    await fleet.load(text)
    worker = await fleet.worker(max_jobs=3)
    done, failed, held = [await worker.take() for _ in range(3)]
    await worker.finish(done)
    await worker.error(failed, kind="refused")
    plan = await fleet.load(text)
    categories = {entry["job_id"]: entry["category"] for entry in plan["entries"]}
    assert categories == {done.job.job_id: "trained", failed.job.job_id: "failed", held.job.job_id: "running"}
    assert not plan["changed"]
    assert await worker.claim() is None


async def test_the_plan_says_what_the_reload_does(fleet: Coordinator):
    await fleet.load(manifest(KEPT, job("gone", seed=2), job("moved", seed=3)))
    text = manifest(KEPT, job("moved", seed=3, priority=5), job("new", seed=4))
    before = await _rows(fleet)
    plan = (await fleet.post("/v1/manifest/plan", {"toml": text, "file": "test.toml"})).json()
    assert await _rows(fleet) == before, "a plan writes nothing"
    assert await fleet.load(text) == plan
    by_name = {entry["name"]: entry for entry in plan["entries"]}
    assert {name: entry["category"] for name, entry in by_name.items()} == {
        "kept": "pending",
        "moved": "pending",
        "new": "new",
        "gone": "removed",
    }
    assert [name for name, entry in by_name.items() if entry["scheduling_changed"]] == ["moved"]
    kinds = [event["kind"] for event in (await fleet.get("/v1/events", after=3))["events"]]
    assert sorted(kinds) == ["queued", "removed", "rescheduled"]
    again = (await fleet.post("/v1/manifest/plan", {"toml": text, "file": "test.toml"})).json()
    assert not again["changed"]


async def test_removed_jobs_stay_and_come_back(fleet: Coordinator):
    await fleet.load(manifest(KEPT, job("gone", seed=2)))
    await fleet.load(manifest(KEPT))
    gone = await fleet.job("gone")
    assert (gone["status"], gone["in_manifest"]) == ("pending", False)
    before = await _rows(fleet)
    await fleet.load(manifest(KEPT))
    assert await _rows(fleet) == before, "it is removed once"
    await fleet.load(manifest(KEPT, job("gone", seed=2)))
    back = await fleet.job("gone")
    assert (back["in_manifest"], back["job_id"], back["queued_at"]) == (
        True,
        gone["job_id"],
        gone["queued_at"],
    )
    kinds = [event["kind"] for event in (await fleet.get("/v1/events"))["events"]]
    assert kinds == ["queued", "queued", "removed", "restored"]


async def test_scheduling_changes_are_no_new_job_also_while_it_runs(fleet: Coordinator):
    await fleet.load(manifest(job("one")))
    worker = await fleet.worker()
    held = await worker.take()
    await fleet.load(manifest(job("renamed", priority=3, min_ram_gib=64, max_attempts=1, n_resamples=7)))
    detail = await fleet.job(held.job.job_id)
    assert (detail["name"], detail["priority"], detail["max_attempts"]) == ("renamed", 3, 1)
    assert (detail["status"], detail["attempt"]) == ("running", held.attempt)
    assert (await worker.finish(held)).json()["status"] == "completed"


async def test_a_changed_identity_is_another_job(fleet: Coordinator):
    await fleet.load(manifest(job("one")))
    before = await fleet.job("one")
    plan = await fleet.load(manifest(job("one", hyper={"trees": 7})))
    (entry,) = plan["entries"]
    assert (entry["category"], entry["replaces"], entry["differs"]) == (
        "changed",
        before["job_id"],
        ["hyper.trees"],
    )
    assert entry["job_id"] != before["job_id"]
    assert (await fleet.job(before["job_id"]))["in_manifest"] is False


async def test_problems_are_all_told_and_change_nothing(fleet: Coordinator):
    await fleet.load(manifest(KEPT))
    before = await _rows(fleet)
    wrong = 'schema_version = 1\n[[jobs]]\nname = "x"\nmodel = "gtb"\npriorty = 1\nrequire_cuda = "false"\n'
    for path in ("plan", "reload"):
        answer = await fleet.post(f"/v1/manifest/{path}", {"toml": wrong, "file": "wrong.toml"})
        problem = await refused(answer, 422, "invalid_manifest")
        assert [(entry["file"], entry["line"], entry["key"]) for entry in problem["errors"]] == [
            ("wrong.toml", 4, "jobs[0].model"),
            ("wrong.toml", 5, "jobs[0].priorty"),
            ("wrong.toml", 6, "jobs[0].require_cuda"),
        ]
    assert await _rows(fleet) == before
    assert (await fleet.get("/v1/manifest"))["toml"] == manifest(KEPT)


async def test_no_manifest_anywhere(fleet: Coordinator):
    for path in ("plan", "reload"):
        problem = await refused(await fleet.post(f"/v1/manifest/{path}"), 409, "no_manifest")
        assert problem["next"] == "fleet reload FILE"
    await refused(await fleet.http().get("/v1/manifest"), 409, "no_manifest")


async def test_an_empty_body_means_the_coordinators_own_file(data: Path, clock: FakeClock, tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text(manifest(KEPT))
    async with running(data, clock, manifest=file) as fleet:
        assert (await fleet.job("kept"))["status"] == "pending"
        current = await fleet.get("/v1/manifest")
        assert (current["fleet"], current["file"], current["toml"]) == ("lab", str(file), manifest(KEPT))
        file.write_text(manifest(KEPT, job("more", seed=9)))
        answer = await fleet.http().post("/v1/manifest/reload")
        assert answer.json()["changed"] is True
        assert (await fleet.job("more"))["status"] == "pending"
        file.unlink()
        await refused(await fleet.http().post("/v1/manifest/reload"), 422, "invalid_manifest")


async def test_what_no_known_worker_can_ever_take(fleet: Coordinator):
    text = manifest(job("gpu", require_cuda=True), job("small", seed=1))

    async def unsatisfiable() -> dict[str, str | None]:
        plan = (await fleet.post("/v1/manifest/plan", {"toml": text})).json()
        return {entry["name"]: entry["unsatisfiable"] for entry in plan["entries"]}

    assert await unsatisfiable() == {"gpu": None, "small": None}, "nobody is known yet"
    await fleet.worker()
    assert await unsatisfiable() == {
        "gpu": "no worker can take it: box: needs a CUDA GPU, has none",
        "small": None,
    }
    await fleet.worker("gpu", gpus=[{"kind": "cuda", "name": "card", "vram_gib": 8}])
    assert await unsatisfiable() == {"gpu": None, "small": None}


@pytest.mark.parametrize("text", ["", "schema_version = 1\n", "schema_version = 1\njobs = []\n"])
async def test_a_manifest_without_jobs(fleet: Coordinator, text: str):
    problem = await refused(await fleet.post("/v1/manifest/plan", {"toml": text}), 422, "invalid_manifest")
    assert "jobs" in {entry["key"] for entry in problem["errors"]}


async def test_others_are_answered_while_a_manifest_is_read(fleet: Coordinator, tmp_path: Path):
    slow = tmp_path / "slow.toml"
    os.mkfifo(slow)
    fleet.services.manifests.own_file = slow
    async with asyncio.TaskGroup() as group:
        reload = group.create_task(fleet.post("/v1/manifest/reload"))
        assert (await fleet.get("/v1/jobs"))["jobs"] == []
        await asyncio.to_thread(slow.write_text, manifest(job("late")))
    assert reload.result().status_code == 200
    assert (await fleet.job("late"))["status"] == "pending"
