"""Commands that look at jobs: status, list, show."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.table import Table
from rich.text import Text

from fleet_client.cli.completion import workers
from fleet_client.cli.output import (
    NARROW,
    SHORT,
    UNBOUNDED,
    console,
    emit,
    facts,
    heading,
    print_json,
    print_text,
    table,
    word,
)
from fleet_client.cli.session import USAGE, Job, Json, Url, ask, fail, note
from fleet_client.text import ago, counted, cut, figure, headline, how_far, one_line, printable, span
from fleet_protocol.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet_client.client import FleetClient
    from fleet_protocol.jobs import AttemptView, JobDetail, JobView
    from fleet_protocol.workers import WorkerView

REASON_CHARS = 60  # of a reason in a list on a terminal; `show` has the whole


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, live, until Ctrl-C.")] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Counts, workers, what failed and why, what waits and why."""
    if watch and not json and not sys.stdout.isatty():
        fail("--watch draws on a terminal.", "`--watch --json` prints a line at each change.", code=USAGE)

    async def question(fleet: FleetClient) -> None:
        if watch:
            await watched(fleet, json=json)
            return
        jobs, workers = await fleet.all_jobs(sort="queued"), (await fleet.workers()).workers
        if json:
            print_text(status_json(jobs, workers, indent=2))
        else:
            emit(*status_parts(jobs, workers))

    ask(url, question)


async def watched(fleet: FleetClient, *, json: bool) -> None:
    """Drawn anew, or printed as a line where it changed, whenever the coordinator tells something."""
    from rich.console import Group
    from rich.live import Live

    from fleet_client.mirror import mirrored

    if json:
        last = ""
        async for mirror in mirrored(fleet, on_break=note):
            if (line := status_json(mirror.jobs, mirror.workers)) != last:
                print_text(last := line)
                sys.stdout.flush()
        return
    with Live(console=console(), auto_refresh=False, vertical_overflow="ellipsis") as screen:
        async for mirror in mirrored(fleet, on_break=lambda why: screen.update(Text(why), refresh=True)):
            screen.update(Group(*status_parts(mirror.jobs, mirror.workers)), refresh=True)


def status_parts(jobs: list[JobView], workers: tuple[WorkerView, ...]) -> list[Table | Text]:
    now, counts = datetime.now(UTC), Counter(job.status for job in jobs)
    live = [worker.name for worker in workers if worker.live]
    names = f" ({', '.join(live)})" if live else ""
    tally = ", ".join(f"{counts[one]} {one}" for one in JobStatus if counts[one])
    summary = facts(
        [
            ("Jobs", tally or "none: `fleet reload FILE` queues those of a manifest"),
            ("Workers", f"{len(live)} live of {len(workers)}{names}"),
        ]
    )
    active = [job for job in jobs if job.status.is_active]
    of_failed = [job for job in jobs if job.status is JobStatus.FAILED]
    waiting = [job for job in jobs if job.status is JobStatus.PENDING]
    return [
        summary,
        *section("Running", [(job, running(job), ago(job.started_at, now)) for job in active]),
        *section(
            "Failed",
            [(job, job.reason or "no reason was given", ago(job.finished_at, now)) for job in of_failed],
        ),
        *section(
            "Waiting", [(job, job.reason or "for its turn", ago(job.queued_at, now)) for job in waiting]
        ),
    ]


def running(job: JobView) -> str:
    """Where it runs, and how far it is."""
    return ", ".join(filter(None, (job.worker, how_far(job.progress))))


def section(title: str, rows: list[tuple[JobView, str, str]]) -> list[Table | Text]:
    lines = [(job.job_id[:SHORT], job.name, since, why) for job, why, since in rows]
    drawn = table(("id", "name", "since", "why"), lines, fold=("name", "why"))
    return [heading(title), drawn] if rows else []


def status_json(jobs: list[JobView], workers: tuple[WorkerView, ...], indent: int | None = None) -> str:
    """`{"counts": {STATUS: N}, "jobs": […], "workers": […]}`: jobs are those not completed."""
    import json

    counts = Counter(job.status for job in jobs)
    open_jobs = [job.model_dump(mode="json") for job in jobs if job.status is not JobStatus.COMPLETED]
    said = {
        "counts": {str(one): counts[one] for one in JobStatus},
        "jobs": open_jobs,
        "workers": [worker.model_dump(mode="json") for worker in workers],
    }
    return json.dumps(said, indent=indent)


def known_order(name: str | None) -> str | None:
    from fleet_protocol.jobs import Sort

    if name is not None and name not in get_args(Sort):
        raise typer.BadParameter(f"{name!r} is none of {', '.join(get_args(Sort))}.")
    return name


def list_jobs(
    *,
    status: Annotated[list[JobStatus] | None, typer.Option(help="Only these; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    mode: Annotated[str | None, typer.Option(help="realistic or oracle.")] = None,
    worker: Annotated[
        str | None, typer.Option(help="Only jobs of this worker.", autocompletion=workers)
    ] = None,
    search: Annotated[str | None, typer.Option("--search", "-q", help="Text in the name or id.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="queued, updated, name, status or priority; `-` before it turns it round.",
            callback=known_order,
        ),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """All jobs, one a line."""
    from fleet_protocol.jobs import JobPage

    def question(fleet: FleetClient) -> Awaitable[list[JobView]]:
        return fleet.all_jobs(status=status or [], model=model, mode=mode, worker=worker, q=search, sort=sort)

    jobs = tuple(ask(url, question))
    if json:
        print_json(JobPage(jobs=jobs))
    else:
        print_jobs(jobs)


def print_jobs(jobs: tuple[JobView, ...]) -> None:
    now, out = datetime.now(UTC), console()
    most = REASON_CHARS if out.is_terminal else UNBOUNDED
    columns: dict[str, Callable[[JobView], Text | str]] = {
        "ID": lambda job: job.job_id[:SHORT],
        "NAME": lambda job: job.name,
        "MODEL": lambda job: f"{job.model} {job.mode}",
        "STATUS": lambda job: word(job.status),
        "WORKER": lambda job: job.worker or "",
        "UPDATED": lambda job: ago(job.updated_at, now),
        "RESULT OR REASON": lambda job: outcome(job, most),
    }
    shown = [name for name in columns if out.width >= NARROW or name not in ("MODEL", "UPDATED")]
    rows = [[columns[name](job) for name in shown] for job in jobs]
    emit(table(shown, rows, fold=("NAME", "RESULT OR REASON")) if rows else "No job matches.")


def outcome(job: JobView, most: int) -> str:
    """What a job came to, or how far it is. One that is trained anew keeps metrics that say nothing of now."""
    result = headline(job.metrics) if job.status is JobStatus.COMPLETED else ""
    if job.status.is_active and not job.reason:
        result = how_far(job.progress)
    return result or cut(one_line(job.reason or ""), most)


def show(job: Job, *, url: Url = None, json: Json = False) -> None:
    """Everything about one job."""
    detail = ask(url, lambda fleet: fleet.job(job))
    if json:
        print_json(detail)
        return
    now = datetime.now(UTC)
    emit(facts(job_facts(detail, now)))
    if detail.metrics:
        emit(
            heading("Metrics" + earlier(detail)),
            facts((one_line(name), figure(metric)) for name, metric in detail.metrics.items()),
        )
    if detail.history:
        emit("", attempts_table(detail.history, now))
    tail = next((one.tail for one in reversed(detail.history) if one.tail), None)
    if tail and detail.status is not JobStatus.COMPLETED:
        emit(heading("Last lines of the log"), printable(tail.rstrip()))


def earlier(job: JobView) -> str:
    """Said behind what a job has brought, where that is not of the present generation."""
    return "" if job.status is JobStatus.COMPLETED else " (of an earlier training, which completed)"


def job_facts(job: JobDetail, now: datetime) -> list[tuple[str, Text | str | None]]:
    began, ended = job.started_at, job.finished_at
    gone = "" if job.in_manifest else ", no longer in the manifest"
    stopping = ", being cancelled" if job.cancel_requested else ""
    return [
        ("Job", job.job_id),
        ("Name", job.name),
        ("Model", f"{job.model}, {job.mode}"),
        ("Status", Text.assemble(word(job.status), stopping, gone)),
        ("Why", job.reason),
        ("Worker", job.worker),
        ("Queued", f"{ago(job.queued_at, now)}, priority {job.priority}"),
        ("Next try", f"in {span(job.not_before - now)}" if job.not_before and job.not_before > now else None),
        ("Ran", span((ended or now) - began) if began else None),
        ("Progress", progress_fact(job)),
        (
            "Attempts",
            f"{job.attempts} ({counted(job.errors, 'error')} of {job.max_attempts}, {job.lost} lost)",
        ),
        (
            "Artifact",
            job.artifact_path and f"{job.artifact_path}, in the coordinator's data folder{earlier(job)}",
        ),
        ("Asks for", needed(job)),
        ("Hyper", settings(job)),
        ("Trains on", trained_on(job)),
    ]


def progress_fact(job: JobDetail) -> str | None:
    told = job.progress
    if told is None:
        return None
    steps = f"step {told.step} of {told.total}" if told.total else ""
    return ", ".join(filter(None, (how_far(told), steps, one_line(told.phase or ""))))


def needed(job: JobDetail) -> str:
    needs = job.spec.needs
    parts = [f"{needs.min_ram_gib:g} GiB RAM", counted(needs.min_cores, "core")]
    if needs.require_cuda or needs.prefer_cuda:
        parts.append("CUDA" if needs.require_cuda else "CUDA if there is one")
    if needs.min_vram_gib:
        parts.append(f"{needs.min_vram_gib:g} GiB VRAM")
    if needs.allowed_hosts:
        parts.append(f"one of {', '.join(needs.allowed_hosts)}")
    if needs.denied_hosts:
        parts.append(f"none of {', '.join(needs.denied_hosts)}")
    return ", ".join(parts)


def settings(job: JobDetail) -> str:
    return ", ".join(f"{key} = {value}" for key, value in job.spec.hyper.items()) or "the model's defaults"


def trained_on(job: JobDetail) -> str:
    spec = job.spec
    hosts = ", ".join(spec.train_hosts)
    return f"{hosts}; split by {spec.split_recipe}, seed {spec.seed}, {spec.n_resamples} resamples"


def attempts_table(history: tuple[AttemptView, ...], now: datetime) -> Table:
    rows = [
        (
            one.number,
            one.worker,
            word(one.status),
            ago(one.created_at, now),
            span((one.ended_at or now) - one.started_at) if one.started_at else "",
            "" if one.exit_code is None else one.exit_code,
            one.reason or "",
        )
        for one in history
    ]
    return table(("TRY", "WORKER", "STATUS", "CLAIMED", "RAN", "EXIT", "WHY"), rows, fold=("WHY",))
