"""Which waiting worker gets which waiting job: decided from values, once for everybody who waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_protocol.ids import JobId, WorkerId
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

    @property
    def order(self) -> tuple[int, datetime, str]:
        return (-self.priority, self.queued_at, self.job_id)


def assign(
    candidates: Sequence[Candidate], waiting: Sequence[Offer], everybody: Sequence[Offer], now: datetime
) -> list[tuple[JobId, WorkerId]]:
    """Pairs of job and worker, each worker at most once, in the queue's order.

    Order of jobs: priority (high first), time queued, id. A job that fits nobody who waits blocks nobody behind
    it. Among the waiting workers that fit: higher host priority, then the tightest fit, then the name.
    """
    free = {offer.worker_id: offer for offer in waiting}
    pairs: list[tuple[JobId, WorkerId]] = []
    for job in sorted(candidates, key=lambda candidate: candidate.order):
        able = [
            offer
            for offer in free.values()
            if not fits(job.demand, offer) and not _better_elsewhere(job, offer, everybody, now)
        ]
        if able:
            chosen = min(able, key=_tightness)
            pairs.append((job.job_id, chosen.worker_id))
            del free[chosen.worker_id]
        if not free:
            break
    return pairs


def _tightness(offer: Offer) -> tuple[int, float, float, int, str]:
    return (-offer.policy.priority, max(offer.free_vram, default=0.0), offer.ram_gib, offer.cores, offer.name)


def _better_elsewhere(job: Candidate, offer: Offer, everybody: Sequence[Offer], now: datetime) -> bool:
    """A preference that holds this pair back; never a bar, since it lasts only while there is an alternative."""
    others = [
        other
        for other in everybody
        if other.live and not other.draining and other.worker_id != offer.worker_id
    ]
    if job.avoid == offer.worker_id:
        return any(not fits(job.demand, other) for other in others)
    needs = job.demand.needs
    if not needs.prefer_cuda or uses_cuda(needs, offer.capability) or now - job.queued_at > job.prefer_wait:
        return False
    return any(uses_cuda(needs, other.capability) and not can_ever(job.demand, other) for other in others)


def heads_wanted(digests: Mapping[str, Demand], waiting: Sequence[Offer]) -> dict[str, int]:
    """How many jobs of each kind are worth looking at: as many as waiting workers could take them."""
    wanted = {digest: sum(not fits(demand, offer) for offer in waiting) for digest, demand in digests.items()}
    return {digest: count for digest, count in wanted.items() if count}
