"""What a manifest would change, decided from values: the wanted jobs against the known ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleet_protocol.ids import JobId, Sha256
from fleet_protocol.jobs import JobSpec
from fleet_protocol.plan import Category, PlanEntry
from fleet_protocol.states import JobStatus
from fleet_server.jobs.model import Job, code_of
from fleet_server.jobs.transitions import Change
from fleet_server.matching.fits import Demand, Offer, can_ever, demand_of, why_waiting

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
    blobs: frozenset[Sha256]
    """What the jobs are made of that are not trained yet."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same for all jobs of one demand: thousands of jobs are of a few kinds."""

    digest: str
    never: str | None
    """Why no known worker can ever take it; None while one can, or none is known."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job of the manifest, as it would be stored."""

    spec: JobSpec
    stored: dict[str, object]
    kind: Kind


def decide(
    wanted: Sequence[JobSpec], known: Mapping[JobId, Job], offers: Sequence[Offer], now: datetime
) -> Decision:
    """Where each job stands, and the rows to add and to change; empty where the manifest is as it was."""
    kinds: dict[Demand, Kind] = {}
    jobs = [_wanted(spec, kinds, offers) for spec in wanted]
    named = {job.spec.job_id for job in jobs}
    added = [job for job in jobs if job.spec.job_id not in known]
    new = tuple(_new(job, now, position) for position, job in enumerate(added))
    kept = [(known[job.spec.job_id], job) for job in jobs if job.spec.job_id in known]
    gone = [job for job in known.values() if job.job_id not in named]
    changes = [change for old, job in kept if (change := _kept(old, job, now))]
    changes += [_dropped(job, now) for job in gone if job.in_manifest]
    replaced = {job.name: job for job in gone if job.in_manifest}
    entries = [_entry(job, known.get(job.spec.job_id), replaced, offers) for job in jobs]
    taken = {entry.replaces for entry in entries}
    return Decision(
        (*entries, *_removed(job for job in gone if job.job_id not in taken)),
        new,
        tuple(changes),
        frozenset(
            sha256
            for job, entry in zip(jobs, entries, strict=True)
            if entry.category is not Category.TRAINED
            for sha256 in _made_of(job.spec)
        ),
    )


def _made_of(spec: JobSpec) -> Iterator[Sha256]:
    if spec.dataset is not None:
        yield spec.dataset.sha256
    if spec.program is not None and spec.program.source is not None:
        yield spec.program.source


def _wanted(spec: JobSpec, kinds: dict[Demand, Kind], offers: Sequence[Offer]) -> Wanted:
    demand = demand_of(spec)
    if demand not in kinds:
        never = bool(offers) and all(can_ever(demand, offer) for offer in offers)
        kinds[demand] = Kind(demand.digest, why_waiting(demand, offers) if never else None)
    return Wanted(spec, spec.model_dump(mode="json"), kinds[demand])


def _new(job: Wanted, now: datetime, position: int) -> Job:
    """The manifest's order is the queue's: each job is a microsecond younger than the one before it."""
    spec, queued = job.spec, now + timedelta(microseconds=position)
    return Job(
        job_id=spec.job_id,
        name=spec.name,
        model=spec.model,
        mode=spec.mode,
        spec=job.stored,
        needs_digest=job.kind.digest,
        priority=spec.priority,
        status=JobStatus.PENDING,
        created_at=queued,
        queued_at=queued,
        updated_at=now,
    )


def _kept(job: Job, wanted: Wanted, now: datetime) -> Change | None:
    """The same job with another name, priority or needs, or back in the manifest; None when nothing differs."""
    spec, digest = wanted.spec, wanted.kind.digest
    is_there = (job.name, job.priority, job.needs_digest, job.in_manifest)
    if is_there == (spec.name, spec.priority, digest, True) and job.spec == wanted.stored:
        return None
    after = replace(
        job,
        name=spec.name,
        spec=wanted.stored,
        needs_digest=digest,
        priority=spec.priority,
        in_manifest=True,
        updated_at=now,
    )
    return Change("rescheduled" if job.in_manifest else "restored", job, after)


def _dropped(job: Job, now: datetime) -> Change:
    """The manifest names it no more; it stays as it is until somebody cancels it."""
    return Change("removed", job, replace(job, in_manifest=False, updated_at=now))


def _entry(
    wanted: Wanted, job: Job | None, replaced: Mapping[str, Job], offers: Sequence[Offer]
) -> PlanEntry:
    spec = wanted.spec
    old = replaced.get(spec.name) if job is None else None
    category = CATEGORIES[job.status] if job else Category.CHANGED if old else Category.NEW
    waits = category in (Category.NEW, Category.CHANGED, Category.PENDING)
    return PlanEntry(
        job_id=spec.job_id,
        name=spec.name,
        model=spec.model,
        mode=spec.mode,
        category=category,
        status=job.status if job else None,
        replaces=old.job_id if old else None,
        differs=_differences(old.specification, spec) if old else (),
        other_code=category is Category.TRAINED and job is not None and _is_other_code(spec, job, offers),
        scheduling_changed=job is not None and job.spec != wanted.stored,
        unsatisfiable=wanted.kind.never if waits else None,
    )


def _differences(old: JobSpec, new: JobSpec) -> tuple[str, ...]:
    """The keys of the identity in which two jobs differ; single settings of `hyper` by name."""
    keys = ("model", "mode", "split_recipe", "train_hosts", "seed", "dataset")
    found = [key for key in keys if getattr(old, key) != getattr(new, key)]
    settings = sorted(old.hyper.keys() | new.hyper.keys())
    found += [f"hyper.{key}" for key in settings if old.hyper.get(key) != new.hyper.get(key)]
    if (old.program and old.program.source) != (new.program and new.program.source):
        found.append("source")
    return tuple(found)


def _is_other_code(spec: JobSpec, job: Job, offers: Sequence[Offer]) -> bool:
    """Trained by code that nobody would train it with now; unknown on either side is not other."""
    trainers = {offer.capability.trainer for offer in offers if offer.live}
    now = {code for trainer in trainers or {None} if (code := code_of(spec, trainer))}
    return job.code is not None and bool(now) and job.code not in now


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
