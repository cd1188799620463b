"""A fleet as its events tell it: rows that are replaced, and what is true of them now. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fleet_client.client import FleetClient
from fleet_client.errors import Unavailable, Unreachable
from fleet_client.follow import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from fleet_protocol.events import EventsFrame, LiveFrame, SnapshotFrame
from fleet_protocol.ids import JobId
from fleet_protocol.jobs import JobView
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import WorkerView


class Mirror:
    """Jobs in the order in which they were made, and workers; `cursor` is the last event that is in them."""

    def __init__(self) -> None:
        self.cursor: int | None = None
        self._jobs: dict[str, JobView] = {}
        self._workers: dict[str, WorkerView] = {}
        self._waiting: dict[JobId, str] = {}

    @property
    def jobs(self) -> list[JobView]:
        return [self._with_reason(job) for job in self._jobs.values()]

    @property
    def workers(self) -> tuple[WorkerView, ...]:
        return tuple(self._workers.values())

    def apply(self, frame: SnapshotFrame | EventsFrame | LiveFrame) -> None:
        match frame:
            case SnapshotFrame():
                self._jobs = {job.job_id: job for job in frame.jobs}
                self._workers = {worker.worker: worker for worker in frame.workers}
                self._waiting = {}
                self.cursor = frame.cursor
            case EventsFrame():
                for event in frame.events:
                    if event.job:
                        self._put_job(event.job)
                    if event.worker:
                        self._put_worker(event.worker)
                self.cursor = frame.cursor
            case LiveFrame():
                self._apply_live(frame)

    def _put_job(self, job: JobView) -> None:
        known = self._jobs.get(job.job_id)
        goes_on = known is not None and job.status.is_active and known.attempt == job.attempt
        progress = known.progress if known is not None and goes_on else None
        self._jobs[job.job_id] = job.model_copy(update={"progress": progress})

    def _put_worker(self, worker: WorkerView) -> None:
        known = self._workers.get(worker.worker)
        gauges = known.gauges if known is not None and worker.live else None
        self._workers[worker.worker] = worker.model_copy(update={"gauges": gauges})

    def _apply_live(self, frame: LiveFrame) -> None:
        self._waiting.update(frame.waiting)
        for job_id, progress in frame.progress.items():
            if (job := self._jobs.get(job_id)) and job.status.is_active:
                self._jobs[job_id] = job.model_copy(update={"progress": progress})
        for worker_id, gauges in frame.gauges.items():
            if worker := self._workers.get(worker_id):
                self._workers[worker_id] = worker.model_copy(update={"gauges": gauges})
        for worker_id, heard in frame.heard.items():
            if worker := self._workers.get(worker_id):
                self._workers[worker_id] = worker.model_copy(update={"last_heard_at": heard})

    def _with_reason(self, job: JobView) -> JobView:
        waits = self._waiting.get(job.job_id) if job.status is JobStatus.PENDING else None
        return job if waits is None else job.model_copy(update={"reason": waits or None})


async def mirrored(
    fleet: FleetClient, *, on_break: Callable[[str], None] = lambda sentence: None
) -> AsyncGenerator[Mirror]:
    """The fleet after each frame, for ever. Once begun, a coordinator that goes away is waited for."""
    mirror, pause = Mirror(), FIRST_PAUSE_SECONDS
    while True:
        broke = "The coordinator went away."
        try:
            stream = fleet.events(after=mirror.cursor)
            async with aclosing(stream):
                async for frame in stream:
                    mirror.apply(frame)
                    pause = FIRST_PAUSE_SECONDS
                    yield mirror
        except (Unreachable, Unavailable) as error:
            if mirror.cursor is None:
                raise
            broke = str(error)
        on_break(f"{broke} Trying again in {pause:g} s.")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
