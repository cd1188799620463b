"""What people ask about jobs: how they stand, why they wait, to cancel them, to try them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_protocol.jobs import (
    AcceptRequest,
    Explanation,
    JobDetail,
    JobPage,
    JobQuery,
    JobView,
    RequeueRequest,
    WorkerFit,
)
from fleet_protocol.states import JobStatus
from fleet_protocol.wire import rfc3339
from fleet_server.artifacts.queries import artifact_path, late_upload
from fleet_server.database import Database, Transaction
from fleet_server.errors import ArtifactMissing
from fleet_server.events.queries import moments
from fleet_server.jobs import queries, transitions
from fleet_server.jobs.model import Job, code_of
from fleet_server.jobs.queries import Pending
from fleet_server.jobs.record import apply
from fleet_server.jobs.transitions import Change
from fleet_server.matching.assign import Candidate, kept_for_another
from fleet_server.matching.fits import Demand, Offer, demand_of, fits, why_waiting
from fleet_server.matching.loop import MatchingLoop
from fleet_server.matching.relax import relaxation
from fleet_server.workers.pace import Pace
from fleet_server.workers.roster import Roster


@dataclass(slots=True)
class Jobs:
    """The operator's side of jobs."""

    database: Database
    matching: MatchingLoop
    roster: Roster
    push_stop: Callable[[WorkerId, AttemptId, str], None]
    """Told of an attempt that is to end, so that its agent need not wait for the next heartbeat."""

    async def page(self, wanted: JobQuery) -> JobPage:
        async with self.database.read() as connection:
            found, following = await queries.list_jobs(connection, wanted)
            offers = await connection.run_sync(self.matching.offers)
        return JobPage.model_construct(jobs=tuple(views(found, offers, self.roster.paces)), next=following)

    async def detail(self, reference: str) -> JobDetail:
        async with self.database.read() as connection:
            job = await queries.find_job(connection, reference)
            history = await queries.attempts_of(connection, job.job_id)
            offers = await connection.run_sync(self.matching.offers)
            path = await artifact_path(connection, job.artifact) if job.artifact else None
        (view,) = views([job], offers, self.roster.paces)
        return JobDetail(
            **view.model_dump(),
            spec=job.specification,
            max_attempts=int(job.spec["max_attempts"]),
            errors=job.errors,
            lost=job.lost,
            not_before=job.not_before,
            history=tuple(attempt.view() for attempt in history),
            checkpoint=job.checkpoint,
            artifact_path=path,
        )

    async def explain(self, reference: str) -> Explanation:
        async with self.database.read() as connection:
            job = await queries.find_job(connection, reference)
            offers = await connection.run_sync(self.matching.offers)
            timeline = await moments(connection, job.job_id)
            candidate = await connection.run_sync(lambda sync: self.matching.candidate(sync, job))
        demand = candidate.demand
        workers = [_fit(candidate, offer, offers, self.matching.now()) for offer in offers]
        return Explanation(
            job_id=job.job_id,
            status=job.status,
            summary=_summary(job, offers, workers),
            workers=tuple(workers),
            relaxation=relaxation(demand, offers) if job.status is JobStatus.PENDING else None,
            timeline=timeline,
        )

    async def cancel(self, reference: str, actor: str, reason: str) -> JobView:
        job = await self._change(reference, actor, lambda job, now: transitions.cancelled(job, now, reason))
        if job.cancel_requested and job.attempt is not None and job.worker_id is not None:
            self.push_stop(job.worker_id, job.attempt, "cancelled by the operator")
        return job.view()

    async def requeue(self, reference: str, actor: str, request: RequeueRequest) -> JobView:
        def decide(job: Job, now: datetime) -> Change:
            return transitions.requeued(job, now, request.reason, again=request.again)

        return (await self._change(reference, actor, decide)).view()

    async def accept(self, reference: str, actor: str, request: AcceptRequest) -> JobView:
        """Complete a job with the artifact that one of its attempts brought too late."""
        async with self.database.read() as connection:
            job_id = (await queries.find_job(connection, reference)).job_id

        def operate(tx: Transaction) -> Job:
            upload = late_upload(tx.connection, job_id, request.attempt)
            if upload is None:
                raise ArtifactMissing(
                    f"No attempt of job {job_id} brought an artifact that could be accepted."
                )
            job, attempt = queries.job_and_attempt(tx.connection, job_id, upload.attempt)
            result = transitions.Result(
                upload.sha256, upload.metrics, code_of(job.specification, upload.trainer)
            )
            return apply(tx, transitions.accepted(job, attempt, tx.now, result, request.reason), actor)

        return (await self.database.writer.run(operate)).view()

    async def _change(
        self, reference: str, actor: str, decide: Callable[[Job, datetime], Change | None]
    ) -> Job:
        async with self.database.read() as connection:
            job_id = (await queries.find_job(connection, reference)).job_id

        def operate(tx: Transaction) -> Job:
            job = queries.job_row(tx.connection, job_id)
            change = decide(job, tx.now)
            return job if change is None else apply(tx, change, actor)

        return await self.database.writer.run(operate)


def views(jobs: Iterable[Job], offers: list[Offer], paces: Mapping[JobId, Pace]) -> list[JobView]:
    """Rows as the wire shows them: a running job with its progress, a pending one with why it waits."""
    reasons: dict[str, str | None] = {}  # computed once for equal demands

    def waits(job: Job) -> str | None:
        if job.needs_digest not in reasons:
            reasons[job.needs_digest] = why_waiting(demand_of(job.specification), offers)
        return reasons[job.needs_digest]

    def shown(job: Job) -> JobView:
        if job.status is JobStatus.PENDING:
            return job.view(_pending_reason(job, waits(job)))
        pace = paces.get(job.job_id) if job.status.is_active else None
        return job.view(progress=pace.progress if pace and pace.attempt == job.attempt else None)

    return [shown(job) for job in jobs]


def waiting_reasons(
    jobs: Iterable[Pending], kinds: Mapping[str, Demand], offers: list[Offer]
) -> dict[JobId, str]:
    """Pending jobs that wait for more than their turn, and why; `kinds` are their demands by digest."""
    waits = {digest: why_waiting(demand, offers) for digest, demand in kinds.items()}
    return {job.job_id: why for job in jobs if (why := _pending_reason(job, waits[job.needs_digest]))}


def _pending_reason(job: Job | Pending, waits: str | None) -> str | None:
    own = [job.reason] if job.reason else []
    if job.not_before is not None and own:
        own.append(f"tries again at {rfc3339(job.not_before)}")
    return "; ".join([*own, *([waits] if waits else [])]) or None


def _fit(job: Candidate, offer: Offer, everybody: list[Offer], now: datetime) -> WorkerFit:
    refusals = fits(job.demand, offer)
    kept = None if refusals else kept_for_another(job, offer, everybody, now)
    return WorkerFit(worker=offer.name, refusals=refusals, kept=kept)


def _summary(job: Job, offers: list[Offer], workers: list[WorkerFit]) -> str:
    if job.status is JobStatus.PENDING:
        waits = why_waiting(demand_of(job.specification), offers)
        able = [fit for fit in workers if not fit.refusals]
        if able and all(fit.kept for fit in able):
            waits = "; ".join(f"{fit.worker}: {fit.kept}" for fit in able)
        return _pending_reason(job, waits) or "it is next in line for a worker that fits"
    if job.status.is_active:
        return f"{job.status} on {job.worker}"
    return job.reason or f"{job.status} on {job.worker}"
