"""Watching the demo's coordinator: who is live, what runs, and all of it as lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from fleet_client.client import FleetClient
from fleet_client.demo.verdict import is_settled, told
from fleet_client.errors import FleetError, Unreachable
from fleet_client.folding import Fold
from fleet_client.follow import Piece, follow
from fleet_client.text import cut, one_line
from fleet_protocol.events import Event, EventsFrame, SnapshotFrame
from fleet_protocol.jobs import Explanation, JobView
from fleet_protocol.states import JobStatus

NAME_CHARS = 28  # of the longest name in the bundled manifests
LOG_CHARS = 100
QUIET_SECONDS = 4.0  # between two log lines of one job
LOOK_SECONDS = 0.5

Say = Callable[[str], None]


@dataclass(slots=True)
class Story:
    """What the events have told so far. `say` is called with each line; `muted` while a dashboard is shown."""

    fleet: FleetClient
    say: Say
    muted: bool = False
    live: set[str] = field(default_factory=set)
    active: set[str] = field(default_factory=set)
    over: bool = False

    def line(self, who: str, what: str) -> None:
        if not self.muted:
            self.say(f"{who:<{NAME_CHARS}} {what}")

    async def follow(self) -> None:
        """Takes in events until cancelled, over any number of connections."""
        cursor: int | None = None
        async with asyncio.TaskGroup() as logs:
            while True:
                try:
                    stream = self.fleet.events(cursor)
                    async with aclosing(stream):
                        async for frame in stream:
                            match frame:
                                case SnapshotFrame():
                                    cursor = frame.cursor
                                    self.take_snapshot(frame)
                                case EventsFrame():
                                    cursor = frame.cursor
                                    for event in frame.events:
                                        self.take(event, logs)
                except Unreachable:
                    await asyncio.sleep(LOOK_SECONDS)

    def take_snapshot(self, frame: SnapshotFrame) -> None:
        self.live = {worker.name for worker in frame.workers if worker.live}
        self.active = {job.job_id for job in frame.jobs if job.status.is_active}

    def take(self, event: Event, logs: asyncio.TaskGroup) -> None:
        if line := told(event):
            self.line(*line)
        if event.worker is not None:
            (self.live.add if event.worker.live else self.live.discard)(event.worker.name)
        if event.job is not None:
            active = event.job.status.is_active
            (self.active.add if active else self.active.discard)(event.job.job_id)
            if event.kind == "started":
                logs.create_task(self.tell_log(event.job))

    async def tell_log(self, job: JobView) -> None:
        """Now and then the newest line of a running job's log."""
        clock, told_at, name = asyncio.get_running_loop().time, 0.0, one_line(job.name)
        try:
            async for piece in follow(self.fleet, job.job_id, attempt=job.attempt):
                if not isinstance(piece, Piece) or clock() - told_at < QUIET_SECONDS:
                    continue
                if last := newest_line(piece.data):
                    told_at = clock()
                    self.line(name, f"| {cut(last, LOG_CHARS)}")
        except FleetError:
            return  # the log is an ornament here; the job's end tells what matters

    async def settled(self, workers: set[str], check: Callable[[], None]) -> list[Explanation]:
        """Waits until nothing more can happen; returns why the jobs still pending wait.

        `check` is called at every look and raises when a program that is needed has ended.
        """
        while True:
            check()
            if workers <= self.live and not self.active:
                jobs = await self.fleet.all_jobs()
                pending = [job.job_id for job in jobs if job.status is JobStatus.PENDING]
                why = {str(job_id): await self.fleet.explain(job_id) for job_id in pending}
                if is_settled(jobs, why):
                    self.over = True
                    return list(why.values())
            await asyncio.sleep(LOOK_SECONDS)


def newest_line(data: bytes) -> str:
    """The last line with something in it, as a terminal would show it."""
    fold = Fold()
    lines = [*fold.feed(data), *fold.finish()]
    return next((one_line(line) for line in reversed(lines) if line.strip()), "")
