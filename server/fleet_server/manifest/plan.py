"""What a manifest would change, decided from values: the wanted jobs against the known ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fleet_protocol.ids import JobId
from fleet_protocol.jobs import JobSpec
from fleet_protocol.plan import Category, PlanEntry
from fleet_protocol.states import JobStatus
from fleet_server.jobs.model import Job
from fleet_server.jobs.transitions import Change
from fleet_server.matching.fits import Offer, can_ever, demand_of, why_waiting

CATEGORIES = {
    JobStatus.PENDING: Category.PENDING,
    JobStatus.CLAIMED: Category.RUNNING,
    JobStatus.RUNNING: Category.RUNNING,
    JobStatus.COMPLETED: Category.TRAINED,
    JobStatus.FAILED: Category.FAILED,
    JobStatus.CANCELLED: Category.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan's entries, and what applying it would write."""

    entries: tuple[PlanEntry, ...]
    new: tuple[Job, ...]
    changes: tuple[Change, ...]


def decide(
    wanted: Sequence[JobSpec], known: Mapping[JobId, Job], offers: Sequence[Offer], now: datetime
) -> Decision:
    """Where each job stands, and the rows to add and to change; empty where the manifest is as it was."""
    named = {spec.job_id for spec in wanted}
    new = tuple(_new(spec, now) for spec in wanted if spec.job_id not in known)
    kept = [(known[spec.job_id], spec) for spec in wanted if spec.job_id in known]
    gone = [job for job in known.values() if job.job_id not in named]
    changes = [change for job, spec in kept if (change := _kept(job, spec, now))]
    changes += [
        Change("removed", job, replace(job, in_manifest=False, updated_at=now))
        for job in gone
        if job.in_manifest
    ]
    entries = [_entry(spec, known.get(spec.job_id), offers) for spec in wanted]
    return Decision((*entries, *_removed(gone)), new, tuple(changes))


def _new(spec: JobSpec, now: datetime) -> Job:
    return Job(
        job_id=spec.job_id,
        name=spec.name,
        model=spec.model,
        mode=spec.mode,
        spec=_stored(spec),
        needs_digest=demand_of(spec).digest,
        priority=spec.priority,
        status=JobStatus.PENDING,
        created_at=now,
        queued_at=now,
        updated_at=now,
    )


def _kept(job: Job, spec: JobSpec, now: datetime) -> Change | None:
    """The same job with another name, priority or needs, or back in the manifest; None when nothing differs."""
    after = replace(
        job,
        name=spec.name,
        spec=_stored(spec),
        needs_digest=demand_of(spec).digest,
        priority=spec.priority,
        in_manifest=True,
    )
    if after == job:
        return None
    return Change("rescheduled" if job.in_manifest else "restored", job, replace(after, updated_at=now))


def _dropped(job: Job, now: datetime) -> Change:
    """The manifest names it no more; it stays as it is until somebody cancels it."""
    return Change("removed", job, replace(job, in_manifest=False, updated_at=now))


def _stored(spec: JobSpec) -> dict[str, object]:
    return spec.model_dump(mode="json")


def _entry(spec: JobSpec, job: Job | None, offers: Sequence[Offer]) -> PlanEntry:
    category = Category.NEW if job is None else CATEGORIES[job.status]
    waits = category in (Category.NEW, Category.PENDING)
    demand = demand_of(spec)
    never = waits and bool(offers) and all(can_ever(demand, offer) for offer in offers)
    return PlanEntry(
        job_id=spec.job_id,
        name=spec.name,
        model=spec.model,
        mode=spec.mode,
        category=category,
        status=job.status if job else None,
        scheduling_changed=job is not None and job.spec != _stored(spec),
        unsatisfiable=why_waiting(demand, offers) if never else None,
    )


def _removed(gone: Iterable[Job]) -> list[PlanEntry]:
    return [
        PlanEntry(
            job_id=job.job_id,
            name=job.name,
            model=job.model,
            mode=job.mode,
            category=Category.REMOVED,
            status=job.status,
        )
        for job in gone
    ]
