"""What a fleet has trained, as Markdown: from values to text, without a clock. Pictures are `report_pictures`' part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import mean

from fleet_client.text import counted, figure, one_line, span
from fleet_protocol.artifacts import Calibration, Evaluation
from fleet_protocol.jobs import JobDetail
from fleet_protocol.metrics import Reading
from fleet_protocol.states import AttemptStatus, JobStatus

Curves = Mapping[str, tuple[Reading, ...]]
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~$])")


@dataclass(frozen=True, slots=True)
class Told:
    """One job as the coordinator tells it."""

    job: JobDetail
    curves: Curves = field(default_factory=dict)
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """Whose report it is, and of when: all that makes two reports on the same jobs differ."""

    fleet: str
    at: datetime
    pictures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """File names by job's id."""


def report(told: Sequence[Told], head: Heading) -> str:
    """The whole page."""
    jobs = [one.job for one in told]
    parts = [f"# {plain(head.fleet)}", f"As of {head.at:%Y-%m-%d %H:%M} UTC.", tally(jobs)]
    completed = [one for one in told if one.job.status is JobStatus.COMPLETED]
    for title, lines in (
        ("Results", results([one.job for one in completed])),
        ("Every completed job", table(("job", "id", "seed", "metrics", "artifact"), map(row, completed))),
        ("Failures", failures(jobs)),
        ("Cost", costs(jobs, head.at)),
        ("Time by worker", workers(jobs, head.at)),
    ):
        if lines:
            parts += [f"## {title}", lines]
    for one in completed:
        parts += details(one, head.pictures.get(one.job.job_id, ()))
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Foreign text that is nothing but text in Markdown."""
    return SPECIAL.sub(r"\\\1", one_line(text))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Nothing without a row; cells are Markdown already."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    head = [f"| {' | '.join(headings)} |", "|" + " --- |" * len(headings)]
    return "\n".join([*head, *lines]) if lines else ""


def tally(jobs: Sequence[JobDetail]) -> str:
    counts = Counter(job.status for job in jobs)
    said = ", ".join(f"{counts[one]} {one}" for one in JobStatus if counts[one])
    return (
        f"{len(jobs)} jobs: {said}."
        if jobs
        else "There are no jobs: `fleet reload FILE` queues a manifest's."
    )


def results(jobs: Sequence[JobDetail]) -> str:
    """Models and their settings by mode and split, a table for each data set and headline.

    Jobs that differ in nothing but seed and train_hosts share a cell: their mean and range, never the best of them.
    """
    groups: dict[tuple[str, str], list[JobDetail]] = {}
    for job in jobs:
        if job.metrics:
            data = job.spec.dataset.name if job.spec.dataset else "the workers' data"
            groups.setdefault((data, next(iter(job.metrics))), []).append(job)
    parts = []
    for (data, metric), members in sorted(groups.items()):
        columns = sorted({(job.mode, job.spec.split_recipe) for job in members})
        cells: dict[str, dict[tuple[str, str], list[JobDetail]]] = {}
        for job in members:
            cells.setdefault(variant(job), {}).setdefault((job.mode, job.spec.split_recipe), []).append(job)
        rows = [
            [name, *(cell(held.get(column, []), metric) for column in columns)]
            for name, held in sorted(cells.items())
        ]
        parts += [
            f"{plain(metric)} on {plain(data)}:",
            table(["model", *(f"{m}, {s}" for m, s in columns)], rows),
        ]
    return "\n\n".join(parts)


def variant(job: JobDetail) -> str:
    hyper = ", ".join(f"{key}={value}" for key, value in sorted(job.spec.hyper.items()))
    return plain(f"{job.model} ({hyper})" if hyper else job.model)


def cell(jobs: Sequence[JobDetail], metric: str) -> str:
    if not jobs:
        return ""
    if len(jobs) == 1:
        return plain(figure(jobs[0].metrics[metric]))
    values = [job.metrics[metric].value for job in jobs]
    return f"mean {mean(values):.3f}, {min(values):.3f} to {max(values):.3f} in {len(jobs)} jobs"


def row(one: Told) -> tuple[str, ...]:
    job = one.job
    metrics = "; ".join(f"{plain(name)} {plain(figure(value))}" for name, value in job.metrics.items())
    return plain(job.name), job.job_id, str(job.spec.seed), metrics or "none", (job.artifact or "")[:12]


def failures(jobs: Sequence[JobDetail]) -> str:
    rows = [
        (
            plain(job.name),
            job.job_id,
            job.attempts,
            plain(last.worker if last else ""),
            plain(job.reason or ""),
        )
        for job in jobs
        if job.status is JobStatus.FAILED
        for last in [job.history[-1] if job.history else None]
    ]
    return table(("job", "id", "attempts", "last worker", "why"), rows)


def runs(job: JobDetail, now: datetime) -> list[tuple[str, timedelta, bool]]:
    """Worker, time run, and whether it came to nothing, of each attempt that was started."""
    return [
        (
            one.worker,
            (one.ended_at or now) - one.started_at,
            one.status in (AttemptStatus.FAILED, AttemptStatus.LOST),
        )
        for one in job.history
        if one.started_at
    ]


def costs(jobs: Sequence[JobDetail], now: datetime) -> str:
    rows = []
    for job in jobs:
        spent = runs(job, now)
        if spent:
            whole = sum((length for _, length, _ in spent), timedelta())
            lost = sum((length for _, length, vain in spent if vain), timedelta())
            rows.append((plain(job.name), job.job_id, job.attempts, span(whole), span(lost)))
    return table(("job", "id", "attempts", "ran", "of it in attempts that failed or were lost"), rows)


def workers(jobs: Sequence[JobDetail], now: datetime) -> str:
    spent: dict[str, list[tuple[timedelta, bool]]] = {}
    for job in jobs:
        for worker, length, vain in runs(job, now):
            spent.setdefault(worker, []).append((length, vain))
    rows = [
        (
            plain(worker),
            len(lengths),
            span(sum((length for length, _ in lengths), timedelta())),
            span(sum((length for length, vain in lengths if vain), timedelta())),
        )
        for worker, lengths in sorted(spent.items())
    ]
    return table(("worker", "attempts", "ran", "of it in attempts that failed or were lost"), rows)


def details(one: Told, pictures: Sequence[str]) -> list[str]:
    """Classes and hosts of one job, the commonest confusions, and its pictures; nothing where nothing is told."""
    parts = []
    if (found := one.evaluation) and found.classes:
        rows = [
            (plain(name), *(f"{score.get(key, 0):.3f}" for key in ("precision", "recall", "f1")))
            for name, score in found.classes.items()
        ]
        parts.append(table(("class", "precision", "recall", "F1"), rows))
        parts += [f"Most often confused: {said}." for said in [confused(found)] if said]
    if found and found.hosts:
        hosts = [
            (plain(name), f"{score.get('accuracy', 0):.3f}", f"{score.get('macro_f1', 0):.3f}")
            for name, score in found.hosts.items()
        ]
        parts.append(table(("host", "accuracy", "macro F1"), hosts))
    if found and found.calibration:
        parts += calibrated(found.calibration)
    parts += [f"![{'learning curves' if 'curves' in name else 'confusion'}]({name})" for name in pictures]
    return [f"## {plain(one.job.name)} ({one.job.job_id})", *parts] if parts else []


def calibrated(found: Calibration) -> list[str]:
    """Whether the model is as often right as it says."""
    rows = [
        (
            f"{one.above:.1f} to {one.upto:.1f}",
            one.windows,
            f"{one.confidence:.3f}",
            f"{one.accuracy:.3f}",
        )
        for one in found.bins
    ]
    said = f"Calibration: expected error {found.ece:.3f}, Brier score {found.brier:.3f}."
    return [said, table(("probability told", "windows", "mean told", "right"), rows)]


def confused(found: Evaluation) -> str:
    names = list(found.classes)
    wrong = sorted(
        (-count, actual, predicted)
        for actual, line in enumerate(found.confusion)
        for predicted, count in enumerate(line)
        if count and actual != predicted and max(actual, predicted) < len(names)
    )
    return ", ".join(
        f"{plain(names[actual])} taken for {plain(names[predicted])} {counted(-count, 'time')}"
        for count, actual, predicted in wrong[:3]
    )
