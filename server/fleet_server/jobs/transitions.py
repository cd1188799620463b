"""What may happen to a job, decided from values alone: no clock, no database, no socket in here.

Each function takes the job, the attempt that the caller names and the time, and returns the change, or
`None` where the request was carried out before (a repeated request gets the same answer and writes nothing),
or raises a refusal that carries the truth. `record.apply` writes a change; nothing else writes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fleet_protocol.ids import Sha256, WorkerId
from fleet_protocol.states import TRANSITIONS, AttemptStatus, FailureKind, JobStatus, ReleaseReason, Verdict
from fleet_server.errors import StaleAttempt, WrongState
from fleet_server.jobs.model import Attempt, Job

INFRASTRUCTURE_PAUSE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of trying again, from the settings."""

    max_lost: int
    backoff: timedelta
    backoff_cap: timedelta


@dataclass(frozen=True, slots=True)
class Change:
    """A job and its attempt before and after, and what the event about it says."""

    kind: str
    before: Job
    job: Job
    attempt: Attempt | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        moved = self.job.status is not self.before.status
        if moved and self.job.status not in TRANSITIONS[self.before.status]:
            raise WrongState(
                f"Job {self.job.job_id} cannot go from {self.before.status} to {self.job.status}."
            )


def truth(job: Job) -> dict[str, str | int | None]:
    """What a refused caller needs to know."""
    return {"job_id": job.job_id, "status": job.status, "attempt": job.attempt, "worker": job.worker}


def claimed(job: Job, attempt: Attempt, now: datetime) -> Change:
    """A pending job is handed to a worker as a new attempt."""
    after = replace(
        job,
        status=JobStatus.CLAIMED,
        attempts=attempt.number,
        attempt=attempt.attempt,
        worker_id=attempt.worker_id,
        worker=attempt.worker,
        reason=None,
        not_before=None,
        started_at=None,
        finished_at=None,
        updated_at=now,
    )
    return Change("claimed", job, after, attempt)


def started(job: Job, attempt: Attempt, now: datetime) -> Change | None:
    if attempt.status is AttemptStatus.RUNNING and job.attempt == attempt.attempt:
        return None
    _require_current(job, attempt)
    return Change(
        "started",
        job,
        replace(job, status=JobStatus.RUNNING, started_at=now, updated_at=now),
        replace(attempt, status=AttemptStatus.RUNNING, started_at=now, last_heartbeat_at=now),
    )


def checkpointed(job: Job, attempt: Attempt, now: datetime, checkpoint: Sha256) -> Change | None:
    """What the next attempt would go on from; the blob is known to be there."""
    _require_current(job, attempt)
    if (job.checkpoint, attempt.checkpoint) == (checkpoint, checkpoint):
        return None
    return Change(
        "checkpointed",
        job,
        replace(job, checkpoint=checkpoint, updated_at=now),
        replace(attempt, checkpoint=checkpoint),
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What a trainer handed in: the artifact is known to be there and verified."""

    artifact: Sha256
    metrics: Mapping[str, Any]
    code: str | None = None
    log_bytes: int | None = None


def completed(job: Job, attempt: Attempt, now: datetime, result: Result) -> Change | None:
    """The first completion to arrive wins and is final."""
    if attempt.status is AttemptStatus.COMPLETED and attempt.artifact == result.artifact:
        return None
    _require_current(job, attempt)
    ended = _ended(attempt, AttemptStatus.COMPLETED, now, log_bytes=result.log_bytes)
    return Change("completed", job, _won(job, result, now), replace(ended, artifact=result.artifact))


def _won(job: Job, result: Result, now: datetime) -> Job:
    return replace(
        job,
        status=JobStatus.COMPLETED,
        artifact=result.artifact,
        checkpoint=None,
        metrics=result.metrics,
        code=result.code,
        reason=None,
        cancel_requested=False,
        avoid_worker_id=None,
        not_before=None,
        finished_at=now,
        updated_at=now,
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended badly, as its agent reports it."""

    kind: FailureKind
    reason: str
    exit_code: int | None = None
    tail: str = ""
    log_bytes: int | None = None


def failed(job: Job, attempt: Attempt, now: datetime, failure: Failure, policy: Policy) -> Change | None:
    """The trainer ended with an error, or was lost to something that is not its fault."""
    if not attempt.status.is_open and (attempt.exit_code, attempt.reason) == (
        failure.exit_code,
        failure.reason,
    ):
        return None
    _require_current(job, attempt)
    lost = failure.kind is FailureKind.INFRASTRUCTURE
    ended = replace(
        _ended(
            attempt,
            AttemptStatus.LOST if lost else AttemptStatus.FAILED,
            now,
            failure.reason,
            failure.log_bytes,
        ),
        exit_code=failure.exit_code,
        tail=failure.tail or None,
    )
    if job.cancel_requested:
        return _cancelled(job, ended, now)
    if lost:
        return _lost(job, ended, now, failure.reason, policy)
    errors = job.errors + 1
    after = replace(job, errors=errors, updated_at=now)
    limit = int(job.spec["max_attempts"])
    if failure.kind is FailureKind.REFUSED or errors >= limit:
        tries = "" if limit == 1 or failure.kind is FailureKind.REFUSED else f" (after {errors} attempts)"
        return Change("failed", job, _finished(after, JobStatus.FAILED, now, failure.reason + tries), ended)
    doubled = min(errors - 1, 20)  # far beyond any cap, and within what a timedelta holds
    wait = min(policy.backoff * 2**doubled, policy.backoff_cap)
    reason = (
        f"attempt {attempt.number} failed on {attempt.worker}: {failure.reason}; error {errors} of {limit}"
    )
    return Change("retried", job, _again(after, now, reason, wait, attempt.worker_id), ended, failure.reason)


def lease_lost(job: Job, attempt: Attempt, now: datetime, why: str, policy: Policy) -> Change:
    """The lease ran out, or the start never came: the job goes on elsewhere, the trainer's error count stays."""
    ended = _ended(attempt, AttemptStatus.LOST, now, why)
    if job.cancel_requested:
        return _cancelled(job, ended, now)
    return _lost(job, ended, now, why, policy)


def released(
    job: Job, attempt: Attempt, now: datetime, reason: ReleaseReason, detail: str, log_bytes: int | None
) -> Change | None:
    """Given back without blame."""
    if attempt.status in (AttemptStatus.RELEASED, AttemptStatus.CANCELLED):
        return None
    _require_current(job, attempt)
    words = detail or reason.replace("_", " ")
    if job.cancel_requested:
        return _cancelled(job, _ended(attempt, AttemptStatus.CANCELLED, now, words, log_bytes), now)
    ended = _ended(attempt, AttemptStatus.RELEASED, now, words, log_bytes)
    back = f"given back by {attempt.worker}: {words}"
    return Change("released", job, _again(job, now, back, timedelta(0), None), ended, words)


def cancelled(job: Job, now: datetime, reason: str) -> Change | None:
    """Pending: at once. Claimed or running: the flag is set and the worker is told to stop."""
    if job.status.is_active:
        if job.cancel_requested:
            return None
        after = replace(job, cancel_requested=True, reason="being cancelled by the operator", updated_at=now)
        return Change("cancel_requested", job, after, detail=reason or None)
    if job.status is not JobStatus.PENDING:
        raise WrongState(
            f"Job {job.job_id} is {job.status}; only a pending, claimed or running job can be cancelled.",
            current=truth(job),
        )
    words = reason or "cancelled by the operator"
    return Change("cancelled", job, _finished(job, JobStatus.CANCELLED, now, words), detail=reason or None)


def requeued(job: Job, now: datetime, reason: str, *, again: bool = False) -> Change:
    """An operator's second chance: the counters start anew, the history stays.

    `again` also takes a completed job, as a new generation: the one way out of completed. It begins anew, while
    otherwise the job goes on from the checkpoint that it has.
    """
    is_done = job.status is JobStatus.COMPLETED
    if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED) and not (again and is_done):
        what = "failed, cancelled or completed" if again else "failed or cancelled"
        raise WrongState(
            f"Job {job.job_id} is {job.status}; only a {what} job can be requeued.",
            current=truth(job),
            next_command=f"fleet requeue --again {job.job_id}" if is_done else f"fleet show {job.job_id}",
        )
    after = replace(
        job,
        status=JobStatus.PENDING,
        reason=None,
        errors=0,
        lost=0,
        generation=job.generation + is_done,
        checkpoint=None if again else job.checkpoint,
        cancel_requested=False,
        avoid_worker_id=None,
        not_before=None,
        queued_at=now,
        started_at=None,
        finished_at=None,
        updated_at=now,
    )
    return Change("requeued", job, after, detail=reason or None)


def accepted(job: Job, attempt: Attempt, now: datetime, result: Result, reason: str) -> Change:
    """An operator takes the artifact of an attempt that had lost the job: the only late win, by hand."""
    if job.status is JobStatus.COMPLETED or job.status.is_active:
        raise WrongState(
            f"Job {job.job_id} is {job.status}; a late artifact is accepted only while nothing else counts.",
            current=truth(job),
        )
    theirs = replace(job, attempt=attempt.attempt, worker_id=attempt.worker_id, worker=attempt.worker)
    taken = replace(attempt, status=AttemptStatus.COMPLETED, artifact=result.artifact)
    return Change("accepted", job, _won(theirs, result, now), taken, reason or None)


def verdict(job: Job | None, attempt: Attempt | None, worker: WorkerId) -> tuple[Verdict, str | None]:
    """What to tell a worker about an attempt that it says it runs."""
    if job is None or attempt is None:
        return (
            Verdict.UNKNOWN,
            "this coordinator has no such attempt; is it another one, or a restored backup?",
        )
    if job.attempt != attempt.attempt or not attempt.status.is_open or attempt.worker_id != worker:
        return Verdict.STOP, attempt.reason or f"the job is {job.status} and another attempt holds it"
    if job.cancel_requested:
        return Verdict.STOP, "cancelled by the operator"
    return Verdict.CONTINUE, None


def _require_current(job: Job, attempt: Attempt) -> None:
    if job.attempt == attempt.attempt and attempt.status.is_open and job.status.is_active:
        return
    raise StaleAttempt(
        f"Attempt {attempt.attempt} ended as {attempt.status}; job {job.job_id} is {job.status}.",
        current=truth(job),
    )


def _ended(
    attempt: Attempt,
    status: AttemptStatus,
    now: datetime,
    reason: str | None = None,
    log_bytes: int | None = None,
) -> Attempt:
    return replace(attempt, status=status, reason=reason, ended_at=now, log_bytes=log_bytes)


def _finished(job: Job, status: JobStatus, now: datetime, reason: str) -> Job:
    return replace(job, status=status, reason=reason, cancel_requested=False, finished_at=now, updated_at=now)


def _cancelled(job: Job, attempt: Attempt, now: datetime) -> Change:
    after = _finished(job, JobStatus.CANCELLED, now, "cancelled by the operator")
    return Change("cancelled", job, after, replace(attempt, status=AttemptStatus.CANCELLED))


def _lost(job: Job, ended: Attempt, now: datetime, why: str, policy: Policy) -> Change:
    lost = job.lost + 1
    after = replace(job, lost=lost, updated_at=now)
    if lost >= policy.max_lost:
        words = f"{why}; its worker was lost {lost} times, which is the limit"
        return Change("failed", job, _finished(after, JobStatus.FAILED, now, words), ended, why)
    words = f"lost on {ended.worker}: {why}; loss {lost} of {policy.max_lost}"
    pause = (
        INFRASTRUCTURE_PAUSE if lost > 1 else timedelta(0)
    )  # the first loss is most often a machine gone to sleep
    return Change("lost", job, _again(after, now, words, pause, ended.worker_id), ended, why)


def _again(job: Job, now: datetime, reason: str, wait: timedelta, avoid: WorkerId | None) -> Job:
    return replace(
        job,
        status=JobStatus.PENDING,
        reason=reason,
        not_before=now + wait if wait else None,
        avoid_worker_id=avoid,
        started_at=None,
        updated_at=now,
    )


def expiry(attempt: Attempt, heard: datetime | None, listening_since: datetime, lease: timedelta) -> datetime:
    """When an attempt's lease ends: counted from when it was last heard, or from when anyone was listening."""
    last = max(
        filter(None, (attempt.last_heartbeat_at, attempt.started_at, heard)), default=attempt.created_at
    )
    return max(last, listening_since) + lease
