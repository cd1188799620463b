"""Metrics, progress and gauges over the interface: in by an agent, out to readers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from fleet_protocol.events import LiveFrame, events_frame
from fleet_protocol.logs import GaugesWord, StreamHello
from fleet_protocol.metrics import MAX_POINTS
from fleet_protocol.workers import ClaimAnswer, Gauges, GpuGauge
from tests.server.coordinator import Coordinator, Worker, job, manifest, refused, until

Held = tuple[Worker, ClaimAnswer]


@pytest.fixture
async def held(fleet: Coordinator) -> Held:
    await fleet.load(manifest(job("curvy")))
    worker = await fleet.worker()
    return worker, await worker.take()


def points(*steps: int, name: str = "loss", value: float | None = 0.5) -> list[dict[str, Any]]:
    return [{"name": name, "step": step, "value": value, "at": 1000.0 + step} for step in steps]


async def tell(worker: Worker, held: ClaimAnswer, first: int, *batch: dict[str, Any]) -> Any:
    body = {"worker": worker.id, "first": first, "points": batch}
    return await worker.post(f"/v1/attempt/{held.attempt}/metrics", body)


async def steps(fleet: Coordinator, **query: Any) -> list[int]:
    told = await fleet.get("/v1/job/curvy/metrics", **query)
    return [step for step, _, _ in told["series"].get("loss", [])]


async def test_points_go_in_and_curves_come_out(fleet: Coordinator, held: Held):
    worker, attempt = held
    assert (await tell(worker, attempt, 0, *points(1, 2))).json() == {"next": 2}
    assert (await tell(worker, attempt, 1, *points(2), *points(3, value=None))).json() == {"next": 3}
    assert (await tell(worker, attempt, 0)).json() == {"next": 3}, "asked where to go on"
    assert (await tell(worker, attempt, 3, *points(1, name="accuracy"))).json() == {"next": 4}
    told = (await fleet.http("viewer").get("/v1/job/curvy/metrics")).json()
    assert told == {
        "job_id": attempt.job.job_id,
        "attempt": attempt.attempt,
        "series": {
            "loss": [[1, 0.5, 1001.0], [2, 0.5, 1002.0], [3, None, 1003.0]],
            "accuracy": [[1, 0.5, 1001.0]],
        },
        "stored": 4,
    }


async def test_a_gap_is_refused_with_the_next_number(held: Held):
    worker, attempt = held
    await tell(worker, attempt, 0, *points(0))
    problem = await refused(await tell(worker, attempt, 5, *points(5)), 409, "metrics_gap")
    assert problem["current"] == {"next": 1}


async def test_whose_attempt_it_is(fleet: Coordinator, held: Held):
    _, attempt = held
    stranger = await fleet.worker("stranger")
    await refused(await tell(stranger, attempt, 0, *points(0)), 409, "stale_attempt")
    body = {"worker": stranger.id, "points": []}
    await refused(await stranger.post(f"/v1/attempt/{uuid4()}/metrics", body), 404, "unknown_attempt")
    assert await steps(fleet) == []


async def test_an_attempt_that_lost_its_job_still_tells_as_evidence(fleet: Coordinator, held: Held):
    worker, attempt = held
    await worker.say("release", attempt, reason="drained")
    assert (await tell(worker, attempt, 0, *points(0))).status_code == 200
    assert await steps(fleet) == [0]


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "x" * 10_000},
        {"name": ""},
        {"name": "a\nb"},
        {"step": 1.5},
        {"step": 2**60},
        {"value": "low"},
        {"at": -1},
        {"colour": "red"},
    ],
)
async def test_what_is_no_point_is_refused_whole(fleet: Coordinator, held: Held, bad: dict[str, Any]):
    worker, attempt = held
    await refused(await tell(worker, attempt, 0, *points(0), points(1)[0] | bad), 422, "invalid_request")
    assert await steps(fleet) == []


async def test_bounds_of_a_request_and_of_names(held: Held):
    worker, attempt = held
    await refused(await tell(worker, attempt, 0, *points(*range(MAX_POINTS + 1))), 422, "invalid_request")
    names = [point for number in range(1001) for point in points(1, name=f"sample {number}")]
    problem = await refused(await tell(worker, attempt, 0, *names), 422, "too_many_series")
    assert "1000 names" in problem["detail"]
    content = b'{"worker": "\xff"}'
    http = worker.coordinator.http("agent")
    answer = await http.post(f"/v1/attempt/{attempt.attempt}/metrics", content=content)
    assert answer.status_code in (400, 422)


async def test_long_curves_are_thinned(fleet: Coordinator, held: Held):
    worker, attempt = held
    for first in range(0, 20_000, MAX_POINTS):
        await tell(worker, attempt, first, *points(*range(first, first + MAX_POINTS)))
    await tell(worker, attempt, 20_000, *points(20_000, value=9.0), *points(20_001))
    for limit in (4, 100, 1000):
        told = await fleet.get("/v1/job/curvy/metrics", points=limit)
        kept = told["series"]["loss"]
        assert len(kept) <= limit
        assert (kept[0][0], kept[-1][0], told["stored"]) == (0, 20_001, 20_002)
        assert max(value for _, value, _ in kept) == 9.0
    await refused(await fleet.http().get("/v1/job/curvy/metrics?points=3"), 422, "invalid_request")


async def test_which_attempt_is_meant(fleet: Coordinator, held: Held):
    worker, first = held
    await tell(worker, first, 0, *points(1, 2, 3, 4))
    await worker.say("release", first, reason="drained")
    assert await steps(fleet) == [1, 2, 3, 4]
    second = await worker.take()
    assert await steps(fleet) == []
    await tell(worker, second, 0, *points(3, 4, 5))
    assert await steps(fleet) == [3, 4, 5], "the last one"
    assert await steps(fleet, attempt=first.attempt) == [1, 2, 3, 4]
    assert await steps(fleet, whole=True) == [1, 2, 3, 4, 5]
    assert await steps(fleet, whole=True, attempt=first.attempt) == [1, 2, 3, 4]
    answer = await fleet.http().get(f"/v1/job/curvy/metrics?attempt={uuid4()}")
    await refused(answer, 404, "unknown_attempt")


async def test_metrics_that_are_not_there(fleet: Coordinator):
    await fleet.load(manifest(job("never")))
    problem = await refused(await fleet.http().get("/v1/job/never/metrics"), 409, "wrong_state")
    assert problem["next"].startswith("fleet explain ")
    await refused(await fleet.http().get("/v1/job/nobody/metrics"), 404, "unknown_job")


async def test_they_outlive_the_coordinator(fleet: Coordinator, held: Held):
    worker, attempt = held
    await tell(worker, attempt, 0, *points(1, 2))
    fleet.services.metrics.store._series.clear()  # as a new process begins
    assert (await tell(worker, attempt, 2, *points(3))).json() == {"next": 3}
    assert await steps(fleet) == [1, 2, 3]


async def beat(worker: Worker, held: ClaimAnswer, step: int, total: int | None = 100, **more: Any) -> None:
    answer = await worker.say("heartbeat", held, progress={"step": step, "total": total}, **more)
    assert answer.status_code == 200


async def test_how_long_it_still_takes(fleet: Coordinator, held: Held):
    worker, attempt = held

    async def left() -> Any:
        [listed] = (await fleet.get("/v1/jobs"))["jobs"]
        assert listed["progress"] == (await fleet.job("curvy"))["progress"]
        return listed["progress"] and listed["progress"]["eta_seconds"]

    assert await left() is None
    await beat(worker, attempt, 10)
    assert await left() is None, "one moment has no pace"
    fleet.clock.advance(20)
    await beat(worker, attempt, 20)
    assert await left() == 160.0, "as fast as since the first word, not since step 0"
    fleet.clock.advance(20)
    await beat(worker, attempt, 20)
    assert await left() == 320.0, "it stands still"
    await beat(worker, attempt, 5, 50)
    assert await left() is None, "it counts anew"
    fleet.clock.advance(5)
    await beat(worker, attempt, 50, 50)
    assert await left() == 0.0
    await beat(worker, attempt, 7, None)
    assert await left() is None


async def test_progress_is_that_of_the_attempt_that_runs(fleet: Coordinator, held: Held):
    worker, first = held
    await beat(worker, first, 10)
    await worker.say("release", first, reason="drained")
    assert (await fleet.job("curvy"))["progress"] is None
    second = await worker.take()
    assert (await fleet.job("curvy"))["progress"] is None
    await beat(worker, second, 3)
    assert (await fleet.job("curvy"))["progress"]["step"] == 3


GAUGES = Gauges(
    cpu_pct=35.5, ram_used_gib=4.2, disk_free_gib=100, gpus=(GpuGauge(busy_pct=90, temperature_c=71),)
)


async def shown(fleet: Coordinator) -> Gauges | None:
    [worker] = (await fleet.get("/v1/workers"))["workers"]
    return worker["gauges"] and Gauges.model_validate(worker["gauges"])


async def test_gauges_come_with_hello_and_heartbeats_and_by_themselves(fleet: Coordinator, held: Held):
    worker, attempt = held
    assert await shown(fleet) is None
    await worker.hello(gauges={"cpu_pct": 1})
    assert await shown(fleet) == Gauges(cpu_pct=1)
    await worker.say("heartbeat", attempt, gauges={"cpu_pct": 2})
    assert await shown(fleet) == Gauges(cpu_pct=2)
    await worker.say("heartbeat", attempt)
    assert await shown(fleet) == Gauges(cpu_pct=2), "no news is none"
    async with fleet.websocket("/v1/worker/stream", "agent") as stream:
        await stream.send(StreamHello(worker=worker.id, incarnation=worker.incarnation).model_dump_json())
        await stream.send(GaugesWord(**dict(GAUGES)).model_dump_json())
        await until(lambda: fleet.services.workers.roster.gauges[worker.id] != Gauges(cpu_pct=2))
    assert await shown(fleet) == GAUGES


async def test_a_worker_that_is_gone_shows_none(fleet: Coordinator):
    worker = await fleet.worker()
    await worker.hello(gauges={"cpu_pct": 1})
    fleet.sweep.settings = fleet.sweep.settings.model_copy(update={"sweep": 600.0})
    await fleet.sweep.once()
    fleet.clock.advance(120)
    await fleet.sweep.once()
    assert await shown(fleet) is None


async def test_dashboards_hear_of_all_of_it(fleet: Coordinator, held: Held):
    worker, attempt = held
    await worker.hello(gauges={"cpu_pct": 1})
    await tell(worker, attempt, 0, *points(1, 2))
    await beat(worker, attempt, 10)
    async with fleet.websocket("/v1/events") as events:
        while not isinstance(live := events_frame.validate_json(await events.recv()), LiveFrame):
            pass
        assert live.metric_points == {attempt.attempt: 2}
        assert live.progress[attempt.job.job_id].step == 10
        assert live.gauges == {worker.id: Gauges(cpu_pct=1)}
        await tell(worker, attempt, 2, *points(3))
        live = events_frame.validate_json(await events.recv())
        assert isinstance(live, LiveFrame)
        assert (live.metric_points, live.progress, live.gauges) == ({attempt.attempt: 3}, {}, {})
