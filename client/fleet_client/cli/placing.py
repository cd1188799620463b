"""Commands about who can run what: explain, workers."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from fleet_client.cli.output import emit, facts, heading, print_json, table, word
from fleet_client.cli.session import Job, Json, Url, ask
from fleet_client.text import ago
from fleet_protocol.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_protocol.capability import Gpu
    from fleet_protocol.jobs import Explanation, WorkerFit
    from fleet_protocol.workers import GpuGauge, WorkerView


def explain(job: Job, *, url: Url = None, json: Json = False) -> None:
    """Why a job is where it is: in one sentence, worker by worker with the numbers, and how it came there."""
    answer = ask(url, lambda fleet: fleet.explain(job))
    if json:
        print_json(answer)
        return
    emit(facts(explanation_facts(answer)))
    # Only of a job that waits: who could take another one like it is not why this one is where it is.
    fits = answer.workers if answer.status is JobStatus.PENDING else ()
    rows = [row for fit in fits for row in fit_rows(fit)]
    if rows:
        headings = ("WORKER", "WHY NOT", "ASKED", "OFFERED")
        emit("", table(headings, rows, fold=("WHY NOT", "ASKED", "OFFERED")))
    now = datetime.now(UTC)
    history = [
        (ago(moment.at, now), moment.kind.replace("_", " "), moment.actor, moment.detail or "")
        for moment in answer.timeline
    ]
    if history:
        emit(heading("Timeline"), table(("when", "what", "who", "detail"), history, fold=("detail",)))


def explanation_facts(answer: Explanation) -> list[tuple[str, Text | str | None]]:
    waits = answer.status is JobStatus.PENDING
    return [
        ("Job", answer.job_id),
        ("Status", word(answer.status)),
        ("Waits" if waits else "Why", answer.summary),
        ("Smallest change", f"{answer.relaxation.message}." if answer.relaxation else None),
    ]


def fit_rows(fit: WorkerFit) -> Iterable[tuple[Text | str, ...]]:
    """One row a reason, the worker's name on the first."""
    if not fit.refusals:
        could = Text("could take it now", style=word("live").style)
        yield fit.worker, f"passed over: {fit.kept}" if fit.kept else could, "", ""
    for number, why in enumerate(fit.refusals):
        yield fit.worker if not number else "", why.message, why.required, why.offered


def workers(given: typer.Context, *, url: Url = None, json: Json = False) -> None:
    """Every worker, what it offers and what it does; below, which jobs failed where."""
    if given.invoked_subcommand:
        return
    page = ask(url, lambda fleet: fleet.workers())
    if json:
        print_json(page)
        return
    now = datetime.now(UTC)
    rows = [worker_row(worker, now) for worker in page.workers]
    headings = ("NAME", "STATE", "HEARD", "RUNS", "CORES", "RAM", "GPU", "MODELS")
    none = "No worker has said hello yet: start one with `fleet-agent run --server URL`."
    emit(table(headings, rows, fold=("GPU", "MODELS")) if rows else none)
    if failures := failure_rows(page.workers):
        columns = ("JOB", "WORKER", "FAILED", "LAST REASON", "TRY")
        emit("", table(columns, failures, fold=("JOB", "LAST REASON")))


def worker_row(worker: WorkerView, now: datetime) -> tuple[Text | str | int, ...]:
    offers = worker.capability
    state = "draining" if worker.draining and worker.live else "live" if worker.live else "away"
    used = worker.gauges
    gauges = used.gpus[: len(offers.gpus)] if used else ()
    gpus = ", ".join(gpu_text(gpu, gauge) for gpu, gauge in zip_longest(offers.gpus, gauges))
    ram = f"{offers.ram_gib:.1f} GiB"
    return (
        worker.name,
        word(state),
        ago(worker.last_heard_at, now),
        f"{len(worker.running)}/{offers.max_jobs}",
        joined(str(offers.cores), percent(used.cpu_pct if used else None)),
        f"{used.ram_used_gib:.1f} of {ram}" if used and used.ram_used_gib is not None else ram,
        gpus or "-",
        ", ".join(offers.models),
    )


def gpu_text(gpu: Gpu, gauge: GpuGauge | None) -> str:
    """`RTX 3090 24 GiB (85%, 10.2 GiB used, 71 °C)`."""
    name = f"{gpu.name} {gpu.vram_gib:.0f} GiB"
    if gauge is None:
        return name
    vram = "" if gauge.vram_used_gib is None else f"{gauge.vram_used_gib:.1f} GiB used"
    heat = "" if gauge.temperature_c is None else f"{gauge.temperature_c:.0f} °C"
    return joined(name, ", ".join(filter(None, (percent(gauge.busy_pct), vram, heat))))


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0f}%"


def joined(offered: str, used: str) -> str:
    return f"{offered} ({used})" if used else offered


def failure_rows(workers: Iterable[WorkerView]) -> list[tuple[str, ...]]:
    """Job by job where it failed: one that failed everywhere is a bad job, many on one worker a bad machine."""
    cells = [
        (failed.name, failed.job_id, worker.name, failed) for worker in workers for failed in worker.failures
    ]
    rows: list[tuple[str, ...]] = []
    last = ""
    for name, job_id, worker, failed in sorted(cells, key=lambda cell: cell[:3]):
        job = name if job_id != last else ""
        rows.append((job, worker, f"{failed.count} x", failed.reason, failed.suggestion or ""))
        last = job_id
    return rows
