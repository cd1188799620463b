"""Claims over HTTP: what waits, who gets it, and that nobody gets it twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

from tests.server.coordinator import Coordinator, job, jobs, manifest, refused, until


async def _waiting(fleet: Coordinator, count: int = 1) -> None:
    """Until so many claims were considered and wait on."""
    await until(lambda: sum(claim.considered for claim in fleet.services.matching._waiting) >= count)


async def test_a_claim_carries_the_whole_job(fleet: Coordinator):
    await fleet.load(manifest(job("trees", hyper={"trees": 50}, min_cores=2, seed=7)))
    worker = await fleet.worker()
    held = await worker.claim()
    assert held is not None
    assert (held.number, held.lease_seconds) == (1, 600)
    assert (held.job.name, held.job.hyper, held.job.seed) == ("trees", {"trees": 50}, 7)
    view = await fleet.job("trees")
    assert (view["status"], view["worker"], view["attempt"]) == ("claimed", "box", held.attempt)


async def test_nothing_to_do_is_204_at_once(fleet: Coordinator):
    worker = await fleet.worker()
    assert await worker.claim() is None


async def test_an_unknown_worker_is_told_to_say_hello(fleet: Coordinator):
    body = {"worker": str(uuid4()), "claim_id": str(uuid4())}
    await refused(await fleet.http("agent").post("/v1/job/claim", json=body), 409, "unknown_worker")


async def test_a_waiting_claim_is_answered_by_a_reload(fleet: Coordinator):
    worker = await fleet.worker()
    async with asyncio.TaskGroup() as group:
        claim = group.create_task(worker.claim(wait=30))
        await _waiting(fleet)
        await fleet.load(manifest(job("late")))
    held = claim.result()
    assert held is not None
    assert held.job.name == "late"


async def test_a_waiting_claim_is_answered_by_a_requeue(fleet: Coordinator):
    await fleet.load(manifest(job("again", max_attempts=1)))
    worker = await fleet.worker()
    await worker.error(await worker.take())
    async with asyncio.TaskGroup() as group:
        claim = group.create_task(worker.claim(wait=30))
        await _waiting(fleet)
        assert (await fleet.post("/v1/job/again/requeue")).status_code == 200
    held = claim.result()
    assert held is not None
    assert held.number == 2


async def test_a_waiting_claim_is_answered_when_the_backoff_is_over(fleet: Coordinator):
    await fleet.load(manifest(job("again")))
    worker = await fleet.worker()
    await worker.error(await worker.take())
    assert await worker.claim() is None
    fleet.clock.advance(30)
    held = await worker.claim()
    assert held is not None
    assert held.number == 2


async def test_a_claim_sent_again_gets_the_same_answer(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker, claim_id = await fleet.worker(max_jobs=2), str(uuid4())
    first = await worker.claim(claim_id=claim_id)
    assert first == await worker.claim(claim_id=claim_id)
    assert await fleet.count("attempts") == 1


async def test_a_claim_of_an_attempt_that_is_over_is_void(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker, claim_id = await fleet.worker(), str(uuid4())
    held = await worker.claim(claim_id=claim_id)
    assert held is not None
    await worker.say("release", held, reason="not_started")
    assert await worker.claim(wait=30, claim_id=claim_id) is None
    assert await fleet.count("attempts") == 1


async def test_a_claim_id_of_another_worker_gives_nothing_away(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    one, two, claim_id = await fleet.worker("one"), await fleet.worker("two"), str(uuid4())
    assert await one.claim(claim_id=claim_id)
    assert await two.claim(claim_id=claim_id) is None


async def test_a_worker_gets_no_more_than_it_takes(fleet: Coordinator):
    await fleet.load(manifest(*jobs(3)))
    worker = await fleet.worker(max_jobs=2)
    claims = [await worker.claim() for _ in range(3)]
    assert [held is not None for held in claims] == [True, True, False]


async def test_two_claims_of_one_worker_at_once_get_two_jobs(fleet: Coordinator):
    await fleet.load(manifest(*jobs(3)))
    worker = await fleet.worker(max_jobs=2)
    for wait in (30.0, 0.0):  # without a wait the second must not be told that there is nothing
        ids = [str(uuid4()), str(uuid4())]
        claims = (fleet.services.matching.claim(worker.id, claim_id, wait) for claim_id in ids)
        held = [claim for claim in await asyncio.gather(*claims) if claim]
        assert len({claim.job.job_id for claim in held}) == 2, wait
        for claim in held:
            await worker.say("release", claim, reason="not_started")


async def test_thirty_two_workers_share_a_hundred_jobs(fleet: Coordinator):
    await fleet.load(manifest(*jobs(100)))
    workers = await asyncio.gather(*(fleet.worker(f"box-{number}") for number in range(32)))
    done: Counter[str] = Counter()

    async def work_off(worker):
        while held := await worker.claim():
            done[held.job.job_id] += 1
            await worker.say("start", held)
            assert (await worker.finish(held)).status_code == 200

    await asyncio.gather(*map(work_off, workers))
    assert len(done) == 100
    assert set(done.values()) == {1}
    assert await fleet.count("attempts") == 100
    assert len((await fleet.get("/v1/jobs", status="completed", limit=1000))["jobs"]) == 100


async def test_jobs_go_out_by_priority_and_then_in_the_order_they_came(fleet: Coordinator):
    await fleet.load(manifest(job("low", priority=-1), job("first", seed=1)))
    fleet.clock.advance(1)
    await fleet.load(
        manifest(
            job("low", priority=-1),
            job("first", seed=1),
            job("second", seed=2),
            job("top", priority=9, seed=3),
        )
    )
    worker = await fleet.worker(max_jobs=10)
    names = [held.job.name for _ in range(4) if (held := await worker.claim())]
    assert names == ["top", "first", "second", "low"]


async def test_what_fits_nowhere_blocks_nobody_behind_it(fleet: Coordinator):
    await fleet.load(manifest(job("gpu", require_cuda=True, priority=9), job("small", seed=1)))
    worker = await fleet.worker()
    assert (await worker.take()).job.name == "small"
    assert await worker.claim() is None
    assert (await fleet.job("gpu"))["reason"] == "no worker can take it: box: needs a CUDA GPU, has none"


async def test_a_policy_change_lets_a_waiting_claim_through(fleet: Coordinator):
    closed = manifest(job("small"), hosts={"box": {"deny_jobs": ["gbt"]}})
    await fleet.load(closed)
    worker = await fleet.worker()
    async with asyncio.TaskGroup() as group:
        claim = group.create_task(worker.claim(wait=30))
        await _waiting(fleet)
        await fleet.load(manifest(job("small"), hosts={"box": {}}))
    assert claim.result()


async def test_a_claim_whose_asker_is_gone_gets_nothing(fleet: Coordinator):
    """A drained or killed agent hangs up; a job handed to it would be stuck until the start is overdue."""
    worker = await fleet.worker()
    asking = asyncio.ensure_future(worker.claim(wait=30))
    await _waiting(fleet)
    asking.cancel()
    await until(lambda: not fleet.services.matching._waiting)
    await fleet.load(manifest(job()))
    assert (await fleet.job("a job"))["status"] == "pending"
    assert await worker.claim()
