"""The demo's last words: a line a job, and where to look next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from fleet_client.cli.output import console, emit, print_text, table, word
from fleet_client.demo.folder import Folder
from fleet_client.demo.programs import command
from fleet_client.demo.show import Outcome
from fleet_client.text import counted, cut, headline, one_line
from fleet_protocol.jobs import JobView
from fleet_protocol.states import JobStatus

DIGEST_CHARS = 7  # enough to tell a fleet's artifacts apart, and to fit 120 columns


def path_of(folder: Folder, outcome: Outcome, job: JobView) -> Path | None:
    found = outcome.artifacts.get(job.artifact) if job.artifact else None
    return folder.coordinator / found.path if found else None


def remark(folder: Folder, outcome: Outcome, job: JobView, *, short: bool) -> str:
    """Where the artifact is, or why there is none. `short`: as much of the path as finds it in models/."""
    if job.status is JobStatus.PENDING and job.job_id in outcome.waiting:
        return one_line(outcome.waiting[job.job_id].summary)
    path = path_of(folder, outcome, job)
    if path is None:
        return one_line(job.reason or "")
    return f"{path.parts[-3]}/{cut(path.parts[-2], DIGEST_CHARS)}" if short else str(path)


def print_outcome(folder: Folder, outcome: Outcome) -> None:
    short = console().is_terminal
    rows = [
        (
            job.name,
            word(job.status),
            headline(job.metrics),
            job.worker or "",
            remark(folder, outcome, job, short=short),
        )
        for job in outcome.jobs
    ]
    last = "ARTIFACT, OR WHY THERE IS NONE"
    emit("", table(("JOB", "STATUS", "RESULT [95 % INTERVAL]", "WORKER", last), rows, fold=("JOB", last)))
    data, manifest = shlex.quote(str(folder.coordinator)), shlex.quote(str(folder.manifest))
    trained = sum(job.status is JobStatus.COMPLETED for job in outcome.jobs)
    ending = "\n".join(outcome.surprises) or "one failed and one waits, as the manifest means them to"
    print_text(
        f"\n{counted(trained, 'job')} trained; {ending}. {outcome.seconds:.0f} s in all.\n"
        f"Everything is in {folder.root}: the manifest, logs/, and the artifacts in coordinator/models/.\n"
        "To look around, start the coordinator again, and in another terminal the dashboard:\n"
        f"  {command('fleet-server')} serve --data {data} --manifest {manifest}\n"
        f"  {command('fleet-tui')}"
    )


def print_outcome_json(folder: Folder, outcome: Outcome) -> None:
    """`{"ok", "seconds", "folder", "surprises", "jobs"}`; each job as in lists, with `artifact_path` and `waits`."""
    jobs = []
    for job in outcome.jobs:
        path, why = path_of(folder, outcome, job), outcome.waiting.get(job.job_id)
        more = {"artifact_path": str(path) if path else None, "waits": why.summary if why else None}
        jobs.append(job.model_dump(mode="json") | more)
    said = {
        "ok": not outcome.surprises,
        "seconds": round(outcome.seconds, 1),
        "folder": str(folder.root),
        "surprises": outcome.surprises,
        "jobs": jobs,
    }
    print_text(json.dumps(said, indent=2))
