"""A coordinator that was closed and opened on the same data lost nothing and repeats nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

from fleet_protocol.events import EventsFrame, events_frame
from tests.server.coordinator import FakeClock, job, jobs, manifest, running, until


async def test_what_was_held_goes_on(data: Path, clock: FakeClock):
    claim_id = str(uuid4())
    async with running(data, clock) as fleet:
        await fleet.load(manifest(*jobs(4)))
        worker = await fleet.worker(max_jobs=3)
        started, uploaded = [await worker.take() for _ in range(2)]
        claimed = await worker.claim(claim_id=claim_id)
        assert claimed is not None
        await worker.log(started, 0, b"first ")
        await worker.upload(uploaded, b"weights")
        before = await fleet.get("/v1/jobs")
        events = await fleet.count("events")
    async with running(data, clock) as fleet:
        worker.coordinator = fleet
        assert await fleet.get("/v1/jobs") == before
        assert await fleet.count("events") == events
        assert await worker.claim(claim_id=claim_id) == claimed
        assert (await worker.log(started, 6, b"last")).json() == {"durable": 10}
        for held in (started, uploaded):
            assert (await worker.say("start", held)).json()["status"] == "running"
            assert (await worker.say("heartbeat", held)).json()["verdict"] == "continue"
        assert (await worker.finish(uploaded)).json()["status"] == "completed"
        assert await worker.claim() is not None, "the fourth, since one of three is done"
        assert await worker.claim() is None
        assert await fleet.count("attempts") == 4


async def test_an_upload_goes_on(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        await fleet.load(manifest(job()))
        worker = await fleet.worker()
        held = await worker.take()
        name = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f"
        await worker.upload(held, b"1234", name=name, **{"Content-Range": "bytes 0-3/8"})
    async with running(data, clock) as fleet:
        worker.coordinator = fleet
        await worker.upload(held, b"5678", name=name, **{"Content-Range": "bytes 4-7/8"})
        assert (await fleet.http().get(f"/v1/model/{name}")).content == b"12345678"


async def test_policies_and_the_fleets_name_are_taken_up(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        await fleet.load(manifest(job(), hosts={"box": {"deny_jobs": ["gbt"], "description": "old"}}))
        worker = await fleet.worker()
    async with running(data, clock) as fleet:
        worker.coordinator = fleet
        assert await worker.claim() is None
        assert "deny_jobs" in (await fleet.job("a job"))["reason"]
        assert (await fleet.get("/v1/workers"))["workers"][0]["description"] == "old"
        assert (await fleet.get("/v1/ready"))["fleet"] == "lab"


async def test_its_own_manifest_is_applied_once(data: Path, clock: FakeClock, tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text(manifest(*jobs(2)))
    async with running(data, clock, manifest=file) as fleet:
        assert await fleet.count("events") == 2
    async with running(data, clock, manifest=file) as fleet:
        assert (await fleet.count("events"), await fleet.count("manifests")) == (2, 1)
    file.write_text(manifest(*jobs(3)))
    async with running(data, clock, manifest=file) as fleet:
        assert (await fleet.count("events"), await fleet.count("manifests")) == (3, 2)


async def test_tokens_stay_the_same(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        before = fleet.headers("operator")
    async with running(data, clock) as fleet:
        assert fleet.headers("operator") == before
        assert (await fleet.http().get("/v1/jobs")).status_code == 200


async def test_a_reader_goes_on_by_its_cursor(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        await fleet.load(manifest(*jobs(3)))
    async with running(data, clock) as fleet, fleet.websocket("/v1/events?after=2") as feed:
        frame = events_frame.validate_json(await feed.recv())
        assert isinstance(frame, EventsFrame)
        assert [event.event for event in frame.events] == [3]


async def test_heartbeats_are_written_down_now_and_then(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        await fleet.load(manifest(job()))
        worker = await fleet.worker()
        held = await worker.take()
        clock.advance(50)
        await worker.say("heartbeat", held)
        events = await fleet.count("events")
        await fleet.flush.once()
        assert await fleet.count("events") == events
    async with running(data, clock) as fleet:
        assert (await fleet.job("a job"))["history"][0]["last_heartbeat_at"] == "2026-01-01T12:00:50.000Z"
        assert (await fleet.get("/v1/workers"))["workers"][0]["last_heard_at"] == "2026-01-01T12:00:50.000Z"


async def test_closing_lets_go_of_everybody_who_waits(data: Path, clock: FakeClock):
    async with running(data, clock) as fleet:
        worker = await fleet.worker()
        waiting = [
            asyncio.ensure_future(worker.claim(wait=30)),
            asyncio.ensure_future(fleet.get("/v1/events", after=fleet.services.feed.last, wait=30)),
        ]
        await until(lambda: any(claim.considered for claim in fleet.services.matching._waiting))
        fleet.services.begin_closing()
        claim, page = await asyncio.gather(*waiting)
        assert claim is None
        assert page["events"] == []
