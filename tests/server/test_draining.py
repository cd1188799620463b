"""A worker that is drained gets nothing new and goes on with what it has, whatever restarts in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.coordinator import Coordinator, FakeClock, job, jobs, manifest, refused, running, until


async def kinds(fleet: Coordinator) -> list[str]:
    return [event["kind"] for event in (await fleet.get("/v1/events"))["events"]]


async def order(fleet: Coordinator, verb: str, ref: str, reason: str = "") -> httpx.Response:
    return await fleet.post(f"/v1/worker/{ref}/{verb}", {"reason": reason})


async def test_a_drained_worker_goes_on_and_gets_nothing_new_until_it_is_resumed(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker = await fleet.worker(max_jobs=2)
    held = await worker.take()
    view = (await order(fleet, "drain", "box", "new disk")).json()
    assert (view["draining"], view["running"], view["live"]) == (True, [held.job.job_id], True)
    assert await worker.claim() is None
    assert (await worker.say("heartbeat", held)).json()["verdict"] == "continue"
    assert "draining" in (await fleet.job("job 001"))["reason"]
    refusals = (await fleet.get("/v1/job/job 001/explain"))["workers"][0]["refusals"]
    assert [refusal["code"] for refusal in refusals] == ["draining"]
    assert (await worker.finish(held)).json()["status"] == "completed"
    waiting = asyncio.ensure_future(worker.claim(wait=30))
    await until(lambda: fleet.services.matching._waiting)
    assert (await order(fleet, "resume", "box")).json()["draining"] is False
    assert await waiting is not None
    events = (await fleet.get("/v1/events"))["events"]
    told = [(e["kind"], e["actor"], e["detail"], e["worker"]["draining"]) for e in events if e["worker"]]
    assert told[1:] == [("drained", "operator", "new disk", True), ("resumed", "operator", None, False)]


async def test_a_claim_that_waits_is_not_answered_once_its_worker_is_drained(fleet: Coordinator):
    worker = await fleet.worker()
    waiting = asyncio.ensure_future(worker.claim(wait=30))
    await until(lambda: fleet.services.matching._waiting)
    await order(fleet, "drain", "box")
    await fleet.load(manifest(job("one")))
    other = await fleet.worker("other")
    assert (await other.take()).job.name == "one"
    assert not waiting.done()
    fleet.services.matching.close()
    assert await waiting is None


async def test_it_stays_drained_over_hellos_silence_and_a_restart(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        worker = await fleet.worker()
        await order(fleet, "drain", "box")
        await worker.hello(incarnation="7d0e4ed1-6e1e-4c36-a6c1-6a6e6e1d3a39", version="2")
        assert (await fleet.get("/v1/workers"))["workers"][0]["draining"]
        for _ in range(7):
            clock.advance(10)
            await fleet.sweep.once()
        [view] = (await fleet.get("/v1/workers"))["workers"]
        assert (view["live"], view["draining"]) == (False, True)
        await worker.hello()
    async with running(data, clock) as fleet:
        await fleet.load(manifest(job("one")))
        worker.coordinator = fleet
        await worker.hello()
        assert await worker.claim() is None
        await order(fleet, "resume", "box")
        assert (await worker.take()).job.name == "one"


async def test_saying_it_twice_is_one_event(fleet: Coordinator):
    await fleet.worker()
    for verb in ("resume", "drain", "drain", "resume", "resume"):
        assert (await order(fleet, verb, "box")).status_code == 200
    assert await kinds(fleet) == ["worker_hello", "drained", "resumed"]


async def test_hellos_and_orders_at_once_lose_neither(fleet: Coordinator):
    worker = await fleet.worker()
    hellos = [worker.hello(version=str(number)) for number in range(20)]
    await asyncio.gather(*hellos[:10], order(fleet, "drain", "box"), *hellos[10:], fleet.sweep.once())
    [view] = (await fleet.get("/v1/workers"))["workers"]
    assert view["draining"]
    assert fleet.services.workers.roster.workers[worker.id].draining


async def test_a_worker_goes_by_its_name_its_id_or_a_beginning_of_that(fleet: Coordinator):
    worker = await fleet.worker("a/b c")
    for ref in ("a%2Fb%20c", worker.id, worker.id[:8].upper()):
        assert (await order(fleet, "drain", ref)).json()["name"] == "a/b c"
    for ref in ("a", worker.id[:3], "%2F"):
        problem = await refused(await order(fleet, "drain", ref), 404, "unknown_worker")
        assert problem["next"] == "fleet workers"


@pytest.mark.parametrize("body", [{"reason": "x" * 2001}, {"why": "x"}, []])
async def test_a_wrong_order_changes_nothing(fleet: Coordinator, body: Any):
    await fleet.worker()
    assert (await fleet.post("/v1/worker/box/drain", body)).status_code == 422
    assert await kinds(fleet) == ["worker_hello"]
