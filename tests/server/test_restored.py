"""An older database was put back: whoever had read on sees what is true, and no id is given to two events."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from fleet_client.mirror import Mirror
from fleet_protocol.events import EventsFrame, LiveFrame, SnapshotFrame, events_frame
from fleet_tui.store import Store
from tests.server.coordinator import Coordinator, FakeClock, jobs, manifest, refused, running

DATABASE = "FLEET_SERVER_DATABASE_URL"


class Copies:
    """What an administrator does behind fleet's back, while no coordinator runs."""

    def __init__(self, data: Path, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        self._file, self._copy = data / "fleet.sqlite3", data.parent / "copy.sqlite3"
        self._request, self._stack = request, stack
        self._url = ""

    def take(self) -> None:
        if DATABASE in os.environ:
            postgres = self._request.getfixturevalue("postgres")
            self._url = self._stack.enter_context(postgres.database(copy_of=os.environ[DATABASE]))
        else:
            shutil.copy(self._file, self._copy)

    def put_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if self._url:
            monkeypatch.setenv(DATABASE, self._url)
        else:
            shutil.copy(self._copy, self._file)
            for name in ("-wal", "-shm"):
                Path(f"{self._file}{name}").unlink(missing_ok=True)


@pytest.fixture
def copies(data: Path, request: pytest.FixtureRequest) -> Iterator[Copies]:
    with ExitStack() as stack:
        yield Copies(data, request, stack)


class Reader:
    """Goes on from its own cursor, as the client and the dashboard do."""

    def __init__(self) -> None:
        self.mirror, self.store = Mirror(), Store()
        self.ids: list[int] = []
        self.snapshots = 0

    async def read(self, fleet: Coordinator) -> None:
        """Until all that has happened was told."""
        query = "" if self.mirror.cursor is None else f"?after={self.mirror.cursor}"
        async with fleet.websocket(f"/v1/events{query}") as feed:
            while not await self._take(feed, fleet):
                pass

    async def _take(self, feed: ClientConnection, fleet: Coordinator) -> bool:
        frame = events_frame.validate_json(await feed.recv())
        self.mirror.apply(frame)
        self.store.apply(frame, fleet.clock.now())
        self.snapshots += isinstance(frame, SnapshotFrame)
        self.ids += [event.event for event in frame.events] if isinstance(frame, EventsFrame) else []
        return isinstance(frame, LiveFrame)  # sent once the history is told

    async def sees_the_truth(self, fleet: Coordinator) -> None:
        def told(job: Any) -> tuple[object, ...]:
            return job["job_id"], job["status"], job["attempt"], job["version"]

        jobs = [told(job) for job in (await fleet.get("/v1/jobs"))["jobs"]]
        workers = {worker["worker"] for worker in (await fleet.get("/v1/workers"))["workers"]}
        assert sorted(told(job.model_dump(mode="json")) for job in self.mirror.jobs) == sorted(jobs)
        assert sorted(told(row.job.model_dump(mode="json")) for row in self.store.jobs.values()) == sorted(
            jobs
        )
        assert {worker.worker for worker in self.mirror.workers} == set(self.store.workers) == workers


async def test_who_read_on_before_an_older_database_was_put_back_sees_the_truth(
    data: Path, clock: FakeClock, copies: Copies, monkeypatch: pytest.MonkeyPatch
):
    ahead, behind = Reader(), Reader()
    async with running(data, clock) as fleet:
        await fleet.load(manifest(*jobs(3)))
        worker = await fleet.worker()
        await ahead.read(fleet)
        await behind.read(fleet)
        assert ahead.mirror.cursor == 4
    copies.take()
    clock.advance(60)
    async with running(data, clock) as fleet:
        worker.coordinator = fleet
        await fleet.worker("forgotten")
        await worker.finish(await worker.take())
        await ahead.read(fleet)
        await ahead.sees_the_truth(fleet)
    lost = set(ahead.ids)
    assert (ahead.snapshots, len(lost)) == (1, 4), "it went on over the restart"
    copies.put_back(monkeypatch)
    clock.advance(60)
    async with running(data, clock) as fleet:
        for path in (f"/v1/events?after={ahead.mirror.cursor}&wait=30", "/v1/events?after=5"):
            await refused(await fleet.http().get(path), 410, "cursor_unknown")
        worker.coordinator = fleet
        await worker.error(await worker.take())
        for reader in (ahead, behind):
            await reader.read(fleet)
            await reader.sees_the_truth(fleet)
        assert (ahead.snapshots, behind.snapshots) == (2, 1), "4 is of both histories"
        true = [event["event"] for event in (await fleet.get("/v1/events"))["events"]]
    assert [*range(1, 5), *behind.ids] == true
    assert lost.isdisjoint(true)
    assert max(lost) < min(behind.ids) <= max(behind.ids) < 2**53


async def test_ids_go_on_where_the_clock_is_behind_them(data: Path, clock: FakeClock):
    ids: list[int] = []
    for seconds in (0, 100, -1000):
        clock.advance(seconds)
        async with running(data, clock) as fleet:
            await fleet.load(manifest(*jobs(len(ids) + 1)))
            ids = [event["event"] for event in (await fleet.get("/v1/events"))["events"]]
    assert ids == [1, ids[1], ids[1] + 1]
    assert ids[1] == int(clock.now().timestamp() + 1000) * 1_000_000 + 1
