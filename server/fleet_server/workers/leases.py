"""Which attempts hold a lease: kept in memory by what the writer commits, so that a heartbeat waits for no database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_server.database import EventRow
from fleet_server.jobs.model import Job


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose it is; `seconds` where the job has a lease of its own."""

    job_id: JobId
    worker_id: WorkerId
    seconds: float | None


class Leases:
    """The attempts that may go on. One that is missing is no verdict: the database knows why."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.held: dict[AttemptId, Lease] = {}
        for job in jobs:
            self._take_up(job)

    def of(self, attempt: AttemptId, worker: WorkerId) -> Lease | None:
        lease = self.held.get(attempt)
        return lease if lease and lease.worker_id == worker else None

    def on_commit(self, events: Sequence[EventRow]) -> None:
        for event in events:
            if event.job is not None:
                self._take_up(event.job)

    def _take_up(self, job: Job) -> None:
        """A job keeps the attempt that held it until the next claim, so the row after a change tells whose ended."""
        if job.attempt is None:
            return
        if job.status.is_active and job.worker_id is not None and not job.cancel_requested:
            self.held[job.attempt] = Lease(job.job_id, job.worker_id, job.spec["lease"])
        else:
            self.held.pop(job.attempt, None)
