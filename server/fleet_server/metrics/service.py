"""Curves of attempts: taking their points in, and reading them back as a person looks at them."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet_protocol.ids import AttemptId, WorkerId
from fleet_protocol.metrics import JobMetrics, MetricsRequest
from fleet_server.database import Database
from fleet_server.errors import StaleAttempt, UnknownAttempt, WrongState
from fleet_server.jobs.queries import attempts_of, find_attempt, find_job
from fleet_server.metrics.curves import joined, thinned
from fleet_server.metrics.store import MetricStore


@dataclass(slots=True)
class Metrics:
    database: Database
    store: MetricStore
    _workers: dict[AttemptId, WorkerId] = field(default_factory=dict)

    async def append(self, attempt: AttemptId, request: MetricsRequest) -> int:
        """The number of the next point. Also of an attempt that lost its job: as evidence, like its log."""
        if attempt not in self._workers:
            self._workers[attempt] = await self._worker_of(attempt)
        if self._workers[attempt] != request.worker:
            raise StaleAttempt(f"Attempt {attempt} belongs to another worker.")
        return await self.store.append(attempt, request.first, request.points)

    async def _worker_of(self, attempt: AttemptId) -> WorkerId:
        async with self.database.read() as connection:
            found = await find_attempt(connection, attempt)
        if found is None:
            raise UnknownAttempt(f"There is no attempt {attempt}.")
        return found.worker_id

    async def of_job(
        self, reference: str, attempt: AttemptId | None, limit: int, *, whole: bool
    ) -> JobMetrics:
        """Those of one attempt, without a name the current or last one; `whole`: of all attempts up to it, joined."""
        async with self.database.read() as connection:
            job = await find_job(connection, reference)
            tries = [one.attempt for one in await attempts_of(connection, job.job_id)]
        wanted = attempt or job.attempt
        if wanted is None:
            raise WrongState(
                f"Job {job.job_id} is {job.status} and was never tried, so it has no metrics.",
                next_command=f"fleet explain {job.job_id}",
            )
        if wanted not in tries:
            raise UnknownAttempt(f"Job {job.job_id} has no attempt {wanted}.")
        upto = tries[: tries.index(wanted) + 1]
        read = [await self.store.read(one, limit) for one in (upto if whole else [wanted])]
        curves = joined(curves for curves, _ in read)
        return JobMetrics.model_construct(
            job_id=job.job_id,
            attempt=wanted,
            series={name: thinned(points, limit) for name, points in curves.items()},
            stored=sum(stored for _, stored in read),
        )
