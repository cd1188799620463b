"""When the demo is over, and whether it went as its manifest promises: functions of what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fleet_client.text import headline, one_line
from fleet_protocol.events import Event
from fleet_protocol.jobs import Explanation, JobView, WorkerFit
from fleet_protocol.states import JobStatus

MEANT = {"meant-to-fail": JobStatus.FAILED, "meant-to-wait": JobStatus.PENDING}
"""Jobs of the bundled manifests that shall not complete, by name. Every other one shall."""

PASSING = frozenset({"busy", "draining", "not_live"})
"""Refusals that time alone ends."""


def is_stuck(fit: WorkerFit) -> bool:
    """That worker cannot take the job, and waiting will not change it."""
    return any(refusal.code not in PASSING for refusal in fit.refusals)


def is_settled(jobs: Iterable[JobView], explanations: Mapping[str, Explanation]) -> bool:
    """Nothing is claimed or running, and no worker will ever take what is pending.

    `explanations` are those of the pending jobs, asked for after `jobs`.
    """
    for job in jobs:
        if job.status.is_active:
            return False
        if job.status is JobStatus.PENDING:
            why = explanations.get(job.job_id)
            if why is None or why.status is not JobStatus.PENDING or not why.workers:
                return False
            if not all(is_stuck(fit) for fit in why.workers):
                return False
    return True


def surprises(jobs: Iterable[JobView]) -> list[str]:
    """What did not end as the manifest promises, a sentence each."""
    return [
        f"{one_line(job.name)} is {job.status}, and was meant to be {meant}"
        for job in jobs
        if job.status is not (meant := MEANT.get(job.name, JobStatus.COMPLETED))
    ]


def told(event: Event) -> tuple[str, str] | None:
    """Whom an event is about and what happened to it; None for what is not worth a line."""
    if event.worker is not None and event.job is None:
        return one_line(event.worker.name), event.kind.removeprefix("worker_").replace("_", " ")
    job = event.job
    if job is None or event.kind == "queued":
        return None
    name, worker = one_line(job.name), one_line(job.worker or event.actor.removeprefix("agent:"))
    match event.kind:
        case "claimed":
            return name, f"claimed by {worker}"
        case "started":
            return name, f"started on {worker}"
        case "completed":
            return name, f"completed on {worker}: {headline(job.metrics)}"
        case "failed":
            return name, f"failed on {worker}: {one_line(job.reason or event.detail or 'no reason given')}"
        case _:
            detail = one_line(event.detail or job.reason or "")
            return name, event.kind.replace("_", " ") + (f" ({detail})" if detail else "")
