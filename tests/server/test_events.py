"""The history by cursor and by websocket: everything once, in order, over any number of reconnects."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection

from fleet_protocol.events import Event, EventsFrame, LiveFrame, SnapshotFrame, events_frame
from fleet_protocol.jobs import JobView
from tests.server.coordinator import Coordinator, job, jobs, manifest


async def _frame(feed: ClientConnection) -> SnapshotFrame | EventsFrame | LiveFrame:
    return events_frame.validate_json(await feed.recv())


async def _events(feed: ClientConnection) -> EventsFrame:
    """The next frame of events; live frames may come at any time."""
    while not isinstance(frame := await _frame(feed), EventsFrame):
        assert isinstance(frame, LiveFrame)
    return frame


async def _lives(fleet: Coordinator) -> None:
    """A few transitions of every kind."""
    await fleet.load(manifest(*jobs(4)))
    worker = await fleet.worker(max_jobs=4)
    done, failed, released = [await worker.take() for _ in range(3)]
    await worker.finish(done)
    await worker.error(failed)
    await worker.say("release", released, reason="drained")
    await fleet.post(f"/v1/job/{released.job.job_id}/cancel")
    await fleet.post(f"/v1/job/{released.job.job_id}/requeue")


async def test_pages_of_the_history(fleet: Coordinator):
    await _lives(fleet)
    seen: list[dict[str, Any]] = []
    after = 0
    while (page := await fleet.get("/v1/events", after=after, limit=3))["events"]:
        seen += page["events"]
        after = page["next"]
    assert [event["event"] for event in seen] == list(range(1, len(seen) + 1))
    assert after == len(seen)
    assert [(event["kind"], event["actor"]) for event in seen][3:7] == [
        ("queued", "operator"),
        ("worker_hello", "agent:box"),
        ("claimed", "agent:box"),
        ("started", "agent:box"),
    ]
    assert all((event["job"] is None) == (event["kind"] == "worker_hello") for event in seen)


async def test_replacing_rows_by_events_gives_the_rows(fleet: Coordinator):
    await _lives(fleet)
    rows: dict[str, JobView] = {}
    for event in (await fleet.get("/v1/events", limit=1000))["events"]:
        told = Event.model_validate(event)
        if told.job:
            assert told.job.version == told.event
            rows[told.job.job_id] = told.job
    listed = [JobView.model_validate(view) for view in (await fleet.get("/v1/jobs"))["jobs"]]
    assert {view.job_id: view.model_copy(update={"reason": None}) for view in listed} == {
        job_id: view.model_copy(update={"reason": None}) for job_id, view in rows.items()
    }  # why a pending job waits is only known when asked


async def test_waiting_for_the_next_event(fleet: Coordinator):
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(fleet.get("/v1/events", after=0, wait=30))
        await fleet.load(manifest(job()))
    assert [event["kind"] for event in waiting.result()["events"]] == ["queued"]
    assert (await fleet.get("/v1/events", after=1)) == {"events": [], "next": 1}


async def test_a_snapshot_and_then_every_event(fleet: Coordinator):
    await fleet.load(manifest(*jobs(3)))
    async with fleet.websocket("/v1/events") as feed:
        snapshot = await _frame(feed)
        assert isinstance(snapshot, SnapshotFrame)
        assert (snapshot.cursor, snapshot.fleet, len(snapshot.jobs), snapshot.workers) == (3, "lab", 3, ())
        await fleet.worker()
        frame = await _events(feed)
        assert [event.kind for event in frame.events] == ["worker_hello"]
        assert frame.cursor == 4
        assert frame.events[0].worker is not None


async def test_reconnects_by_cursor_lose_and_repeat_nothing(fleet: Coordinator):
    seen: list[int] = []
    cursor = 0
    async with asyncio.TaskGroup() as group:
        busy = group.create_task(_lives(fleet))
        while not busy.done() or cursor < fleet.services.feed.last:
            async with fleet.websocket(f"/v1/events?after={cursor}") as feed:
                frame = await _events(feed)
                seen += [event.event for event in frame.events]
                cursor = frame.cursor
            if cursor == fleet.services.feed.last:
                await asyncio.sleep(0)
                if not busy.done():
                    await fleet.get("/v1/events", after=cursor, wait=1)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == await fleet.count("events")


async def test_a_slow_reader_gets_everything_too(fleet: Coordinator):
    async with fleet.websocket("/v1/events?after=0") as feed:
        await fleet.load(manifest(*jobs(1200)))
        seen: list[int] = []
        while len(seen) < 1200:
            frame = await _events(feed)
            assert len(frame.events) <= 500
            seen += [event.event for event in frame.events]
    assert seen == list(range(1, 1201))


async def test_a_cursor_from_the_future_gives_a_snapshot(fleet: Coordinator):
    await fleet.load(manifest(job()))
    async with fleet.websocket(f"/v1/events?after={2**40}") as feed:
        snapshot = await _frame(feed)
        assert isinstance(snapshot, SnapshotFrame)
        assert snapshot.cursor == 1


async def test_live_frames_tell_what_is_not_in_the_history(fleet: Coordinator):
    await fleet.load(manifest(job("one"), job("gpu", require_cuda=True, seed=1)))
    worker = await fleet.worker()
    held = await worker.take()
    await worker.log(held, 0, b"hello")
    await worker.say("heartbeat", held, progress={"step": 3, "total": 10, "phase": "fit"})
    async with fleet.websocket("/v1/events") as feed:
        assert isinstance(await _frame(feed), SnapshotFrame)
        live = await _frame(feed)
        assert isinstance(live, LiveFrame)
        assert live.log_lengths == {held.attempt: 5}
        progress = live.progress[held.job.job_id]
        assert (progress.step, progress.total, progress.phase) == (3, 10, "fit")
        assert live.heard == {worker.id: fleet.clock.now()}
        gpu = (await fleet.job("gpu"))["job_id"]
        assert live.waiting == {gpu: "no worker can take it: box: needs a CUDA GPU, has none"}
        again = await _frame(feed)
        assert isinstance(again, LiveFrame)
        assert (again.log_lengths, again.progress, again.heard, again.waiting) == ({}, {}, {}, {})
        await worker.log(held, 5, b" world")
        await fleet.post("/v1/job/gpu/cancel")
        told: dict[str, Any] = {}
        while not (told.get("log") and told.get("waiting")):
            frame = await _frame(feed)
            if isinstance(frame, LiveFrame):
                told = {
                    "log": told.get("log") or frame.log_lengths,
                    "waiting": told.get("waiting") or frame.waiting,
                }
        assert told == {"log": {held.attempt: 11}, "waiting": {gpu: ""}}


async def test_back_through_the_history_page_by_page(fleet: Coordinator):
    await _lives(fleet)
    forth = (await fleet.get("/v1/events", limit=1000))["events"]
    back: list[dict[str, Any]] = []
    before = forth[-1]["event"] + 1
    while page := (await fleet.get("/v1/events", before=before, limit=4, wait=30))["events"]:
        back = page + back
        before = page[0]["event"]
    assert back == forth
    between = await fleet.get("/v1/events", after=2, before=6)
    assert ([event["event"] for event in between["events"]], between["next"]) == ([3, 4, 5], 5)
