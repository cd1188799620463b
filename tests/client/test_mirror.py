from __future__ import annotations

from contextlib import aclosing

import pytest

from fleet_client import mirror as mirror_module
from fleet_client.client import FleetClient
from fleet_client.errors import Unreachable
from fleet_client.mirror import Mirror, mirrored
from fleet_protocol.events import Event, EventsFrame, LiveFrame, SnapshotFrame
from fleet_protocol.jobs import Progress
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import Gauges
from tests.client.fake import ATTEMPT, NOW, TOKEN, WORKER, Coordinator, a_job, a_worker, an_event

RUNNING = a_job(1, JobStatus.RUNNING, attempt=ATTEMPT, worker="pi-garage")
PENDING = a_job(2, reason="for its turn")


def snapshot() -> SnapshotFrame:
    return SnapshotFrame(cursor=5, fleet="f", server_time=NOW, jobs=(RUNNING, PENDING), workers=(a_worker(),))


def begun() -> Mirror:
    mirror = Mirror()
    mirror.apply(snapshot())
    return mirror


def test_rows_are_replaced_by_events():
    mirror = begun()
    failed = RUNNING.model_copy(update={"status": JobStatus.FAILED})
    mirror.apply(EventsFrame(cursor=6, events=(an_event(6, "failed", failed),)))
    assert (mirror.cursor, mirror.jobs) == (6, [failed, PENDING])
    mirror.apply(snapshot())
    assert (mirror.cursor, mirror.jobs) == (5, [RUNNING, PENDING])


def test_what_is_true_now_outlives_a_row_of_the_same_attempt_only():
    mirror = begun()
    mirror.apply(
        LiveFrame(server_time=NOW, progress={RUNNING.job_id: Progress(step=3), PENDING.job_id: Progress()})
    )
    assert [job.progress for job in mirror.jobs] == [Progress(step=3), None]
    stopping = RUNNING.model_copy(update={"cancel_requested": True})
    mirror.apply(EventsFrame(cursor=6, events=(an_event(6, "cancel_requested", stopping),)))
    assert mirror.jobs[0].progress == Progress(step=3)
    waiting = RUNNING.model_copy(update={"status": JobStatus.PENDING})
    mirror.apply(EventsFrame(cursor=7, events=(an_event(7, "released", waiting),)))
    assert mirror.jobs[0].progress is None


def test_why_a_job_waits():
    mirror = begun()
    mirror.apply(LiveFrame(server_time=NOW, waiting={PENDING.job_id: "no worker has CUDA"}))
    assert mirror.jobs[1].reason == "no worker has CUDA"
    mirror.apply(LiveFrame(server_time=NOW, waiting={PENDING.job_id: ""}))
    assert mirror.jobs[1].reason is None


def test_gauges_of_workers_that_are_there():
    mirror = begun()
    mirror.apply(LiveFrame(server_time=NOW, gauges={WORKER: Gauges(cpu_pct=7)}, heard={WORKER: NOW}))
    assert [worker.gauges for worker in mirror.workers] == [Gauges(cpu_pct=7)]
    for number, live in ((6, True), (7, False)):
        word = Event(event=number, at=NOW, kind="x", actor="coordinator", worker=a_worker(live=live))
        mirror.apply(EventsFrame(cursor=number, events=(word,)))
        assert [worker.gauges for worker in mirror.workers] == [Gauges(cpu_pct=7) if live else None]


async def test_a_coordinator_that_goes_away_is_waited_for(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mirror_module, "FIRST_PAUSE_SECONDS", 0.01)
    coordinator.frames = [snapshot()]
    said: list[str] = []
    async with (
        FleetClient(coordinator.url, TOKEN) as fleet,
        aclosing(mirrored(fleet, on_break=said.append)) as told,
    ):
        assert (await anext(told)).cursor == 5
        await anext(told)
    assert said == ["The coordinator went away. Trying again in 0.01 s."]
    assert [line for line in coordinator.asked if line.startswith("WS")] == [
        "WS /v1/events?",
        "WS /v1/events?after=5",
    ]


async def test_one_that_was_never_there_is_not():
    async with FleetClient("http://127.0.0.1:9", TOKEN) as fleet, aclosing(mirrored(fleet)) as told:
        with pytest.raises(Unreachable):
            await anext(told)
