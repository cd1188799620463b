"""A coordinator that only talks, so that a dashboard has all the load: `python -m bench.rig.talker JOBS`.

Prints its address, then obeys one line of its standard input after the other, and answers each with one JSON object:

    snapshot                             to whoever connected; a live frame a second from then on
    events visible|hidden RATE SECONDS   so many transitions a second of what is on the screen, or of nothing that is
    log RATE SECONDS                  so many lines a second of every log that is watched

The answer has the `bytes` that went through the sockets meanwhile, deflated as a coordinator's are.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count, repeat
from typing import Any
from urllib.parse import urlsplit

from tests.tui.recorded import attempt_of, detail, job, worker
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from bench.rig.ingest import LINE_BYTES, lines
from fleet_protocol.events import Event, EventsFrame, LiveFrame, SnapshotFrame
from fleet_protocol.jobs import JobDetail, JobView
from fleet_protocol.logs import LogStart
from fleet_protocol.states import JobStatus

ACTIVE = 20
"""As many as are seen in half of a terminal of 36 lines, or nearly."""
FRAMES_PER_SECOND = 50
"""A coordinator that is busy sends one with each commit."""
REST = (JobStatus.PENDING, JobStatus.COMPLETED, JobStatus.PENDING, JobStatus.CANCELLED, JobStatus.FAILED)
TURN = {
    JobStatus.RUNNING: JobStatus.CLAIMED,
    JobStatus.CLAIMED: JobStatus.RUNNING,
    JobStatus.PENDING: JobStatus.CANCELLED,
    JobStatus.CANCELLED: JobStatus.PENDING,
}
LAST = "the-last-of-all"


class Talker:
    def __init__(self, jobs: int) -> None:
        self.rows = fleet(jobs)
        self.sent = 0
        self._cursor = 1000
        self._speaking, self._met = asyncio.Event(), asyncio.Event()
        self._viewers: dict[ServerConnection, bool] = {}
        """Whether they read events; the others read logs."""

    async def meet(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path = urlsplit(connection.request.path)
        reads_events = path.path.endswith("/events")
        if reads_events:
            await self._speaking.wait()
            await connection.send(self._snapshot().model_dump_json())
        else:
            of = attempt_of(path.path.split("/")[3])
            await connection.send(LogStart(attempt=of, offset=0).model_dump_json())
            await connection.send(lines(2000 * LINE_BYTES))
        self._viewers[connection] = reads_events
        self._met.set()
        await connection.wait_closed()
        del self._viewers[connection]

    def answer(self, _: ServerConnection, request: Request) -> Response | None:
        """To plain requests: a job's detail is all that is asked."""
        if "Upgrade" in request.headers:
            return None
        row = next((row for row in self.rows if row.job_id in request.path), None)
        body = b"{}" if row is None else described(row).model_dump_json().encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return Response(404 if row is None else 200, "", Headers(**headers), body)

    async def live(self) -> None:
        await self._speaking.wait()
        while True:
            await asyncio.sleep(1)
            await self._tell(LiveFrame(server_time=datetime.now(UTC)).model_dump_json(), events=True)

    async def obey(self, verb: str, *arguments: str) -> dict[str, Any]:
        before = self.sent
        match verb, arguments:
            case "snapshot", ():
                self._speaking.set()
                await self._met.wait()
            case "events", (where, rate, seconds):
                await self._events(where == "visible", int(rate), float(seconds))
            case "log", (rate, seconds):
                piece = lines(int(rate) * LINE_BYTES // FRAMES_PER_SECOND)
                await self._paced(float(seconds), repeat(piece), events=False)
            case _:
                raise ValueError(f"unknown: {verb} {arguments}")
        return {"bytes": self.sent - before}

    async def _events(self, visible: bool, rate: int, seconds: float) -> None:
        meant = [at for at, row in enumerate(self.rows) if (at < ACTIVE) == visible and row.status in TURN]
        order = (meant[step * 7919 % len(meant)] for step in count())
        frames = (self._turned([next(order) for _ in range(rate // FRAMES_PER_SECOND)]) for _ in count())
        await self._paced(seconds, frames, events=True)
        last = made(LAST, JobStatus.RUNNING, priority=9)
        await self._tell(self._frame([last]), events=True)

    def _turned(self, meant: list[int]) -> str:
        for at in meant:
            row = self.rows[at]
            turned = {"status": TURN[row.status], "updated_at": datetime.now(UTC)}
            self.rows[at] = row.model_copy(update=turned)
        return self._frame([self.rows[at] for at in meant])

    def _frame(self, rows: Iterable[JobView]) -> str:
        events = []
        for row in rows:
            self._cursor += 1
            told = row.model_copy(update={"version": self._cursor})
            by = f"agent:{row.worker}" if row.worker else "operator"
            events.append(
                Event(event=self._cursor, at=row.updated_at, kind=row.status.value, actor=by, job=told)
            )
        return EventsFrame(cursor=self._cursor, events=tuple(events)).model_dump_json()

    async def _paced(self, seconds: float, messages: Iterable[str | bytes], *, events: bool) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        for number, message in zip(range(round(seconds * FRAMES_PER_SECOND)), messages, strict=False):
            await asyncio.sleep(max(0.0, began + number / FRAMES_PER_SECOND - clock()))
            await self._tell(message, events=events)

    async def _tell(self, message: str | bytes, *, events: bool) -> None:
        for viewer, reads_events in tuple(self._viewers.items()):
            if reads_events == events:
                await viewer.send(message)

    def _snapshot(self) -> SnapshotFrame:
        workers = tuple(worker(f"host-{number:02}", number=number) for number in range(12))
        now = datetime.now(UTC)
        return SnapshotFrame(
            cursor=self._cursor, fleet="bench", server_time=now, jobs=tuple(self.rows), workers=workers
        )


def fleet(jobs: int) -> list[JobView]:
    """A score of running jobs, which come first in the dashboard's order, and a long rest."""
    active = [made(f"active-{number:02}", JobStatus.RUNNING) for number in range(ACTIVE)]
    rest = (
        made(f"sweep-{number // 100:04}/lr=0.001,seed={number % 100}", REST[number % len(REST)])
        for number in range(jobs - ACTIVE)
    )
    return [*active, *rest]


def made(name: str, status: JobStatus, priority: int = 0) -> JobView:
    now = datetime.now(UTC)
    times = {"created_at": now - timedelta(hours=2), "queued_at": now - timedelta(hours=2), "updated_at": now}
    times |= {"started_at": now - timedelta(hours=1)} if status is not JobStatus.PENDING else {}
    reason = "waits for a free worker: all that fit are busy" if status is JobStatus.PENDING else None
    return job(name, status.value, **times, reason=reason, priority=priority)


def described(row: JobView) -> JobDetail:
    return detail(row, hyper={"lr": 0.001, "hidden": 64, "epochs": 40})


class Counted(ServerConnection):
    """Adds up what it sends, as it goes over the wire."""

    talker: Talker

    def send_data(self) -> None:
        for data in self.protocol.data_to_send():
            self.talker.sent += len(data)
            if data:
                self.transport.write(data)
            else:  # the library's sign for the end
                self.transport.write_eof()


async def main(jobs: int) -> None:
    talker = Counted.talker = Talker(jobs)
    options: dict[str, Any] = {
        "max_size": None,
        "create_connection": Counted,
        "process_request": talker.answer,
    }
    async with serve(talker.meet, "127.0.0.1", 0, **options) as server, asyncio.TaskGroup() as group:
        live = group.create_task(talker.live())
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await talker.obey(*line.split())), flush=True)
        live.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
