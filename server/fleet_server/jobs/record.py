"""The one function that changes a job: a guarded update and its event, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from sqlalchemy import Update, bindparam, insert, update

from fleet_server.database import EventRow, Transaction
from fleet_server.errors import WrongState
from fleet_server.jobs.model import JOB_COLUMNS, Attempt, Job, attempt_values, job_values
from fleet_server.jobs.transitions import Change
from fleet_server.tables import attempts, jobs


@cache
def _update_job(*columns: str) -> Update:
    """Status and version are in the WHERE: a change decided on an older row touches nothing."""
    return (
        update(jobs)
        .where(
            jobs.c.job_id == bindparam("_job_id"),
            jobs.c.status == bindparam("_status"),
            jobs.c.version == bindparam("_version"),
        )
        .values({column: bindparam(column) for column in columns})
    )


_UPDATE_ATTEMPT = (
    update(attempts)
    .where(attempts.c.attempt == bindparam("_attempt"))
    .values({column.name: bindparam(column.name) for column in attempts.c if column.name != "attempt"})
)


def apply(tx: Transaction, change: Change, actor: str) -> Job:
    """Write one change; returns the job's row after it. WrongState when the row is not what it was."""
    return apply_all(tx, [change], actor)[0]


def apply_all(tx: Transaction, changes: Sequence[Change], actor: str | Sequence[str]) -> list[Job]:
    """Write many changes set-wise; a claim's attempt is new, others exist. `actor` is one for all, or one each."""
    actors = [actor] * len(changes) if isinstance(actor, str) else list(actor)
    after = [_note(tx, change, by) for change, by in zip(changes, actors, strict=True)]
    pairs = [(change.before, job) for change, job in zip(changes, after, strict=True)]
    columns = [
        name for name in JOB_COLUMNS if any(getattr(old, name) != getattr(new, name) for old, new in pairs)
    ]
    rows = [_guarded(before, job, columns) for before, job in pairs]
    if tx.connection.execute(_update_job(*columns), rows).rowcount != len(changes):
        raise WrongState("The job changed meanwhile; look at it again.")
    touched = [(change.kind, attempt) for change in changes if (attempt := change.attempt)]
    if new := [attempt_values(attempt) for kind, attempt in touched if kind == "claimed"]:
        tx.connection.execute(insert(attempts), new)
    if old := [_known(attempt) for kind, attempt in touched if kind != "claimed"]:
        tx.connection.execute(_UPDATE_ATTEMPT, old)
    return after


def add_jobs(tx: Transaction, new: Sequence[Job], actor: str) -> None:
    """Queue new jobs, with an event each."""
    rows = []
    for job in new:
        change = Change("queued", job, job)
        rows.append(job_values(_note(tx, change, actor)))
    if rows:
        tx.connection.execute(insert(jobs), rows)


def _note(tx: Transaction, change: Change, actor: str) -> Job:
    """Add the event and return the row as it will be: it carries the event's id as its version."""
    job = replace(change.job, version=tx.next_event())
    tx.events.append(
        EventRow(
            event=job.version,
            at=tx.now,
            kind=change.kind,
            actor=actor,
            detail=change.detail,
            job_id=job.job_id,
            worker_id=job.worker_id,
            row=job.view().model_dump(mode="json"),
            job=job,
        )
    )
    return job


def _known(attempt: Attempt) -> dict[str, object]:
    return {**attempt_values(attempt), "_attempt": attempt.attempt}


def _guarded(before: Job, after: Job, columns: Sequence[str]) -> dict[str, object]:
    values = job_values(after)
    changed = {name: values[name] for name in columns}
    return {**changed, "_job_id": before.job_id, "_status": before.status, "_version": before.version}
