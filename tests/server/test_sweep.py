"""Time passes: leases that run out, starts that never come, workers that fall silent, coordinators that slept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fleet_protocol.workers import ClaimAnswer
from tests.server.coordinator import Coordinator, FakeClock, Worker, job, jobs, manifest, refused, running


async def _pass(fleet: Coordinator, seconds: float, *alive: tuple[Worker, ClaimAnswer]) -> None:
    """Let time pass as it does: a look now and then, heartbeats of those who live."""
    step = 30 if seconds % 30 == 0 else 10
    for _ in range(int(seconds // step)):
        fleet.clock.advance(step)
        for worker, held in alive:
            assert (await worker.say("heartbeat", held)).json()["verdict"] == "continue"
        await fleet.sweep.once()


async def _kinds(fleet: Coordinator) -> list[str]:
    return [event["kind"] for event in (await fleet.get("/v1/events", limit=1000))["events"]]


async def test_a_lost_lease_sends_the_job_to_another_worker(fleet: Coordinator):
    await fleet.load(manifest(job()))
    one = await fleet.worker("one")
    lost = await one.take()
    await _pass(fleet, 600)
    assert (await fleet.job("a job"))["status"] == "running", "not a second early"
    two = await fleet.worker("two")
    await _pass(fleet, 10)
    view = await fleet.job("a job")
    assert (view["status"], view["reason"]) == (
        "pending",
        "lost on one: no heartbeat for 600 s; loss 1 of 5",
    )
    assert view["history"][0]["status"] == "lost"
    assert await one.claim() is None, "another could take it"
    held = await two.take()
    assert held.number == 2
    await refused(await one.error(lost), 409, "stale_attempt")
    assert (await one.say("heartbeat", lost)).json()["verdict"] == "stop"
    assert (await two.finish(held)).json()["status"] == "completed"


async def test_heartbeats_keep_a_lease_however_long_it_takes(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    await _pass(fleet, 900, (worker, held))
    assert (await fleet.job("a job"))["status"] == "running"
    await _pass(fleet, 630)
    assert (await fleet.job("a job"))["status"] == "pending"


async def test_a_single_host_takes_its_lost_job_again(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    await worker.take()
    await _pass(fleet, 630)
    held = await worker.claim()
    assert held is not None
    assert held.number == 2


async def test_a_start_that_never_comes(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.claim()
    assert held is not None
    await _pass(fleet, 120)
    assert (await fleet.job("a job"))["status"] == "claimed"
    await _pass(fleet, 10)
    view = await fleet.job("a job")
    assert (view["status"], view["lost"]) == ("pending", 1)
    assert "no start was reported" in view["reason"]
    await refused(await worker.say("start", held), 409, "stale_attempt")


async def test_heartbeats_keep_a_claim_whose_data_are_still_on_the_way(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.claim()
    assert held is not None
    await _pass(fleet, 900, (worker, held))
    assert (await fleet.job("a job"))["status"] == "claimed"
    assert (await worker.say("start", held)).json()["status"] == "running"


async def test_a_heartbeat_of_a_claimed_job_is_as_good_as_a_start(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.claim()
    assert held is not None
    await _pass(fleet, 300, (worker, held))
    assert (await worker.say("start", held)).status_code == 200


async def test_too_many_losses_are_a_failure(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    for number in range(1, 6):
        assert (await worker.take()).number == number
        await _pass(fleet, 660)
    view = await fleet.job("a job")
    assert (view["status"], view["lost"], view["errors"]) == ("failed", 5, 0)
    assert view["reason"].endswith("its worker was lost 5 times, which is the limit")
    assert (await fleet.post("/v1/job/a job/requeue")).json()["status"] == "pending"
    assert (await fleet.job("a job"))["lost"] == 0


async def test_a_cancelled_job_whose_worker_is_gone_ends_cancelled(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    await worker.take()
    await fleet.post("/v1/job/a job/cancel")
    await _pass(fleet, 630)
    assert (await fleet.job("a job"))["status"] == "cancelled"


@pytest.mark.parametrize("pause", [60, 3600, 86_400])
async def test_a_pause_of_the_coordinator_is_not_the_workers_fault(fleet: Coordinator, pause: int):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    await _pass(fleet, 500)
    fleet.clock.advance(pause)
    await fleet.sweep.once()
    assert (await fleet.job("a job"))["status"] == "running"
    await _pass(fleet, 600)
    assert (await worker.say("heartbeat", held)).json()["verdict"] == "continue"
    await _pass(fleet, 630)
    assert (await fleet.job("a job"))["status"] == "pending", "listening again, it counts from there"


async def test_a_restart_counts_from_when_it_listens(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        await fleet.load(manifest(job()))
        worker = await fleet.worker()
        held = await worker.take()
    clock.advance(7200)
    async with running(data, clock) as fleet:
        worker.coordinator = fleet
        await _pass(fleet, 600)
        assert (await fleet.job("a job"))["status"] == "running"
        assert (await worker.say("heartbeat", held)).json()["verdict"] == "continue"
        await _pass(fleet, 630)
        assert (await fleet.job("a job"))["status"] == "pending"


async def test_silent_workers_are_lost_and_come_back(fleet: Coordinator):
    worker = await fleet.worker()
    await _pass(fleet, 60)
    assert (await fleet.get("/v1/workers"))["workers"][0]["live"] is True
    await _pass(fleet, 10)
    (view,) = (await fleet.get("/v1/workers"))["workers"]
    assert (view["live"], view["last_heard_at"]) == (False, "2026-01-01T12:00:00.000Z")
    assert await worker.claim() is None
    await fleet.sweep.once()
    assert (await fleet.get("/v1/workers"))["workers"][0]["live"] is True
    await fleet.sweep.once()
    assert await _kinds(fleet) == ["worker_hello", "worker_lost", "worker_back"]


async def test_a_silent_worker_keeps_its_job_until_the_lease_ends(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    await _pass(fleet, 300)
    assert "worker_lost" in await _kinds(fleet)
    assert (await fleet.job("a job"))["status"] == "running"
    assert (await worker.say("heartbeat", held)).json()["verdict"] == "continue"


async def test_a_name_is_free_again_once_its_worker_is_gone(fleet: Coordinator):
    await fleet.worker("box")
    other = Worker(fleet, "box")
    await refused(await other.post("/v1/worker/hello", other.greeting()), 409, "name_taken")
    await _pass(fleet, 70)
    await other.hello()


async def test_of_many_hellos_with_one_name_one_wins(fleet: Coordinator):
    others = [Worker(fleet, "box") for _ in range(10)]
    answers = await asyncio.gather(*(other.post("/v1/worker/hello", other.greeting()) for other in others))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    assert len((await fleet.get("/v1/workers"))["workers"]) == 1


async def test_a_copied_state_folder_is_refused_and_a_restart_is_not(fleet: Coordinator):
    worker = await fleet.worker()
    copy = worker.greeting(incarnation="0" * 8 + "-0000-4000-8000-" + "0" * 12, boot_id="another machine")
    await refused(await worker.post("/v1/worker/hello", copy), 409, "duplicate_identity")
    await worker.hello(incarnation=copy["incarnation"])
    await _pass(fleet, 70)
    await worker.hello(incarnation=copy["incarnation"], boot_id="rebooted")


async def test_a_hello_that_says_nothing_new_writes_nothing(fleet: Coordinator):
    worker = await fleet.worker()
    await worker.hello()
    assert await fleet.count("events") == 1
    await worker.hello(version="0.2.0")
    assert await fleet.count("events") == 2


async def test_a_protocol_from_elsewhen(fleet: Coordinator):
    worker = Worker(fleet, "box")
    for protocol in (0, 2):
        answer = await worker.post("/v1/worker/hello", worker.greeting(protocol=protocol))
        problem = await refused(answer, 426, "protocol_too_old")
        assert f"protocol {protocol}" in problem["detail"]


async def test_a_hello_learns_what_becomes_of_its_attempts(fleet: Coordinator):
    await fleet.load(manifest(*jobs(3)))
    worker = await fleet.worker(max_jobs=3)
    kept, cancelled, over = [await worker.take() for _ in range(3)]
    await fleet.post(f"/v1/job/{cancelled.job.job_id}/cancel")
    await worker.say("release", over, reason="drained")
    local = [
        {"attempt": held.attempt, "job_id": held.job.job_id, "running": True}
        for held in (kept, cancelled, over)
    ]
    local.append({"attempt": worker.id, "job_id": "0" * 16, "running": True})
    told = await worker.hello(attempts=local)
    assert [entry["verdict"] for entry in told["attempts"]] == ["continue", "stop", "stop", "unknown"]


async def test_a_heartbeat_that_comes_while_the_sweep_looks_is_kept(fleet: Coordinator):
    await fleet.load(manifest(*jobs(8)))
    worker = await fleet.worker(max_jobs=8)
    held = [await worker.take() for _ in range(8)]
    for _ in range(5):
        fleet.clock.advance(10)
        await asyncio.gather(
            fleet.sweep.once(), *(worker.say("heartbeat", entry) for entry in held), fleet.sweep.once()
        )
        beats = fleet.services.workers.roster.beats
        assert {beats.get(entry.attempt) for entry in held} == {fleet.clock.now()}
