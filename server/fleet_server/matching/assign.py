"""Which waiting worker gets which waiting job: decided from values, once for everybody who waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_protocol.ids import JobId, Sha256, WorkerId
from fleet_protocol.wire import rfc3339
from fleet_server.matching.fits import Demand, Offer, can_ever, fits, uses_cuda


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending job at the head of the queue."""

    job_id: JobId
    demand: Demand
    priority: int
    queued_at: datetime
    prefer_wait: timedelta = timedelta(0)
    avoid: WorkerId | None = None
    dataset: Sha256 | None = None

    @property
    def kept_until(self) -> datetime:
        """Until when a job that prefers CUDA waits for it; requeueing alone starts the wait anew."""
        return self.queued_at + self.prefer_wait

    @property
    def order(self) -> tuple[int, datetime, str]:
        return (-self.priority, self.queued_at, self.job_id)


def assign(
    candidates: Sequence[Candidate], waiting: Sequence[Offer], everybody: Sequence[Offer], now: datetime
) -> list[tuple[JobId, WorkerId]]:
    """Pairs of job and worker, each worker at most once, in the queue's order.

    Order of jobs: priority (high first), time queued, id. A job that fits nobody who waits blocks nobody behind
    it. Among the waiting workers that fit: higher host priority, then one that holds the data set, then the
    tightest fit, then the name.
    """
    ranked = sorted(waiting, key=_tightness)
    able: dict[tuple[Demand, Sha256 | None], list[Offer]] = {}  # asked once for all jobs of a kind
    pairs: dict[WorkerId, JobId] = {}
    for job in sorted(candidates, key=lambda candidate: candidate.order):
        kind = (job.demand, job.dataset)
        if kind not in able:
            fitting = [offer for offer in ranked if not fits(job.demand, offer)]
            able[kind] = sorted(fitting, key=lambda offer: _preference(job, offer))
        for offer in able[kind]:
            if offer.worker_id not in pairs and not kept_for_another(job, offer, everybody, now):
                pairs[offer.worker_id] = job.job_id
                break
        if len(pairs) == len(ranked):
            break
    return [(job, worker) for worker, job in pairs.items()]


def _preference(job: Candidate, offer: Offer) -> tuple[int, bool]:
    return (-offer.policy.priority, job.dataset not in offer.holds)


def _tightness(offer: Offer) -> tuple[float, float, int, str]:
    return (max(offer.free_vram, default=0.0), offer.ram_gib, offer.cores, offer.name)


def kept_for_another(job: Candidate, offer: Offer, everybody: Sequence[Offer], now: datetime) -> str | None:
    """Why a worker that could take a job is passed over; never a bar, since it lasts only while there is better."""
    needs = job.demand.needs
    if job.avoid != offer.worker_id and not needs.prefer_cuda:
        return None
    others = [
        other
        for other in everybody
        if other.live and not other.draining and other.worker_id != offer.worker_id
    ]
    if job.avoid == offer.worker_id:
        better = [other.name for other in others if not fits(job.demand, other)]
        return f"it ended badly here last; {', '.join(better)} could take it now" if better else None
    if not needs.prefer_cuda or uses_cuda(needs, offer.capability) or now >= job.kept_until:
        return None
    better = [
        other.name
        for other in others
        if uses_cuda(needs, other.capability) and not can_ever(job.demand, other)
    ]
    return f"kept for CUDA on {', '.join(better)} until {rfc3339(job.kept_until)}" if better else None


def heads_wanted(digests: Mapping[str, Demand], waiting: Sequence[Offer]) -> dict[str, int]:
    """How many jobs of each kind are worth looking at: as many as waiting workers could take them."""
    wanted = {digest: sum(not fits(demand, offer) for offer in waiting) for digest, demand in digests.items()}
    return {digest: count for digest, count in wanted.items() if count}
