"""What is told of one job, one worker and the link, beside the lists: pure lines of text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from rich.cells import cell_len, set_cell_size

from fleet_client.plot import plot
from fleet_protocol.jobs import AttemptView, Explanation, JobDetail, Metric, Needs
from fleet_protocol.metrics import JobMetrics
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import Gauges, GpuGauge, WorkerView
from fleet_tui.cells import (
    STATUS,
    ago,
    figure,
    interval,
    is_fresh,
    progress_cell,
    status_cell,
    time_text,
    worker_state,
)
from fleet_tui.store import JobRow, Store
from fleet_tui.text import Line, Tone, joined, line_width, one_line, plain, spread, wrapped

LABEL = 10
CURVE_ROWS = 8


@dataclass(frozen=True, slots=True)
class Link:
    """How the dashboard is connected: since when it is not, and when it tries again."""

    state: str = "connecting"
    """`connecting`, `live` or `lost`."""
    retry_at: datetime | None = None
    why: str = ""


SILENCE = timedelta(seconds=10)
"""A coordinator that is well says something every second."""


SLOW_SECONDS = 0.1
"""A coordinator that takes longer than this to answer is felt under the keys."""


def link_line(link: Link, told_at: datetime | None, at: datetime, round_trip: float = 0.0) -> Line:
    """`● live`, how long an answer takes where that is felt; or that it is not live and how old the data is."""
    if link.state == "live":
        if told_at is not None and at - told_at > SILENCE:
            return [(f"! no word for {ago(told_at, at)}", "warn")]
        felt: Line = [(f" · answers in {round_trip:.1f}s", "dim")] if round_trip >= SLOW_SECONDS else []
        return [("● live", "good"), *felt]
    age: Line = [(f" · data {ago(told_at, at)} old", "dim")] if told_at else []
    if link.state == "lost" and link.retry_at and link.retry_at > at:
        return [(f"○ reconnecting in {ceil((link.retry_at - at).total_seconds())}s", "warn"), *age]
    return [("◌ connecting", "warn"), *age]


def header_line(store: Store, link: Line, width: int, whose: str = "fleet") -> Line:
    """Whose fleet, how many jobs in which status, and the link at the right edge."""
    name: Line = [(one_line(whose), "accent"), (f" {one_line(store.fleet)}", "strong")]
    ways = (("   ", True), ("  ", True), ("  ", False))
    lines = [joined(name, counts_line(store, gap=gap, words=words), gap=gap) for gap, words in ways]
    left = next((line for line in lines if line_width(line) + line_width(link) + 2 <= width), lines[-1])
    return spread(left, link, width)


def tabs_line(store: Store, views: Sequence[str], active: str, width: int) -> tuple[Line, list[int]]:
    """The views with how much is in each, closer together where there is little room, and where each tab ends."""
    sizes = {
        "jobs": len(store.jobs),
        "failures": store.counts()[JobStatus.FAILED],
        "workers": len(store.workers),
        "events": len(store.events),
    }
    line: Line = []
    ends: list[int] = []
    for gap, sized, least in ((4, views, 9), (2, views, 9), (2, views[:3], 9), (1, (), 9), (1, (), 4)):
        line, ends = [], []
        for number, view in enumerate(views, 1):
            at = view == active
            name = view.capitalize() if at else view.capitalize()[:least]
            line += [(f"{number} ", "accent" if at else "dim"), (name, "strong" if at else "plain")]
            size = f" {sizes[view]}" if view in sized and view in sizes else ""
            line.append((size + " " * gap * (number < len(views)), "dim"))
            ends.append(line_width(line) - gap * (number < len(views)))
        if line_width(line) <= width:
            break
    return line, ends


COUNTED = (
    JobStatus.RUNNING,
    JobStatus.CLAIMED,
    JobStatus.PENDING,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
    JobStatus.COMPLETED,
)


def counts_line(store: Store, *, gap: str, words: bool) -> Line:
    """How many jobs are in each status that any is in."""
    counts = store.counts()
    parts: list[Line] = []
    for status in COUNTED:
        if counts[status]:
            glyph, tone = STATUS[status.value]
            parts.append([(f"{glyph} {counts[status]}" + f" {status.value}" * words, tone)])
    return joined(*parts, gap=gap)


def job_title(row: JobRow, detail: JobDetail | None, now: datetime) -> Line:
    """Name, status, where, which attempt, how long."""
    job = row.job
    parts = [one_line(job.worker)] if job.worker else []
    if job.attempts:
        of = f" of {detail.max_attempts}" if detail else ""
        parts.append(f"attempt {job.attempts}{of}")
    parts.append(TIMED[job.status] + time_text(row, now))
    status = status_cell(job.status, stopping=job.cancel_requested)
    return joined([(one_line(job.name), "strong")], status, [(" · ".join(parts), "dim")])


TIMED = {
    JobStatus.PENDING: "waits ",
    JobStatus.CLAIMED: "",
    JobStatus.RUNNING: "",
    JobStatus.COMPLETED: "took ",
    JobStatus.FAILED: "ran ",
    JobStatus.CANCELLED: "ended after ",
}


def job_facts(row: JobRow, detail: JobDetail | None, width: int) -> list[Line]:
    """Labelled lines, the most important first."""
    lines = _reason_lines(row, width)
    job = row.job
    if job.status.is_active and row.progress:
        lines.append(_fact("progress", progress_cell(row.progress, width - LABEL)))
    if job.metrics:
        metrics = (_metric(name, metric) for name, metric in job.metrics.items())
        earlier: Line = [] if job.status is JobStatus.COMPLETED else [("of an earlier training", "warn")]
        lines.append(_fact("metrics", joined(*metrics, earlier, gap="   ")))
    if detail is None:
        return [*lines, _fact("model", [(one_line(f"{job.model} · {job.mode}"), "plain")])]
    spec = detail.spec
    if len(detail.history) > 1 or (detail.history and not job.status.is_active):
        lines.append(_fact("attempts", joined(*map(_attempt, detail.history[-5:]), gap="   ")))
    what = (
        f"{job.model} · {job.mode} · split {spec.split_recipe} · seed {spec.seed} · priority {spec.priority}"
    )
    lines.append(_fact("model", [(one_line(what), "plain")]))
    if spec.hyper:
        settings = "  ".join(f"{key}={json.dumps(value)}" for key, value in spec.hyper.items())
        lines.append(_fact("hyper", [(one_line(settings), "plain")]))
    lines.append(_fact("needs", [(one_line(needs_text(spec.needs)), "plain")]))
    if detail.artifact_path:
        lines.append(_fact("artifact", [(one_line(detail.artifact_path), "plain")]))
    return lines


def _reason_lines(row: JobRow, width: int) -> list[Line]:
    if not row.reason:
        return []
    label, tone = REASONED.get(row.job.status, ("reason", "warn"))
    texts = wrapped(plain(row.reason.replace("\n", " ")), width - LABEL)[:3]
    return [_fact(label if at == 0 else "", [(text, tone)]) for at, text in enumerate(texts)]


REASONED: dict[JobStatus, tuple[str, Tone]] = {
    JobStatus.FAILED: ("error", "bad"),
    JobStatus.PENDING: ("waits", "warn"),
}


def _fact(label: str, value: Line) -> Line:
    return [(f"{label:<{LABEL}}", "dim"), *value]


def _metric(name: str, metric: Metric) -> Line:
    value = figure(metric.value) + one_line(metric.unit)
    return [(f"{one_line(name)} ", "dim"), (value, "plain"), (f" {interval(metric)}".rstrip(), "dim")]


def _attempt(attempt: AttemptView) -> Line:
    exit_code = f" exit {attempt.exit_code}" if attempt.exit_code else ""
    word = status_cell(attempt.status)
    return [(f"{attempt.number} ", "dim"), *word, (f" {one_line(attempt.worker)}{exit_code}", "dim")]


def needs_text(needs: Needs) -> str:
    """`CUDA with 12 GiB, 4 GiB RAM, 1 core, not on pi`."""
    parts = []
    if needs.require_cuda or needs.prefer_cuda:
        vram = f" with {needs.min_vram_gib:g} GiB" if needs.min_vram_gib else ""
        parts.append(f"CUDA{vram}" + ("" if needs.require_cuda else " preferred"))
    parts += [f"{needs.min_ram_gib:g} GiB RAM", f"{needs.min_cores} core" + "s" * (needs.min_cores != 1)]
    if needs.allowed_hosts:
        parts.append("only on " + " ".join(needs.allowed_hosts))
    if needs.denied_hosts:
        parts.append("not on " + " ".join(needs.denied_hosts))
    return ", ".join(parts)


def why_text(explanation: Explanation, width: int) -> list[str]:
    """The one sentence, then each worker and what stands between it and the job."""
    lines = [*wrapped(plain(explanation.summary), width), ""]
    margin = max((cell_len(one_line(fit.worker)) for fit in explanation.workers), default=0) + 2
    for fit in explanation.workers:
        name = one_line(fit.worker)
        could = f"passed over: {fit.kept}" if fit.kept else "could take it now"
        for reason in [refusal.message for refusal in fit.refusals] or [could]:
            for part in wrapped(one_line(reason), width - margin):
                lines.append(set_cell_size(name, margin) + part)
                name = ""
    return lines


SPARKS = " ▁▂▃▄▅▆▇█"
SPARK_CELLS = 30


def spark(values: Sequence[float | None], most: float) -> str:
    """The last values as bars between 0 and `most`; a blank where none was told."""
    top = len(SPARKS) - 1
    return "".join(
        " " if value is None else SPARKS[max(1, min(top, ceil(value / most * top)))] for value in values
    )


def load_lines(worker: WorkerView, held: Sequence[Gauges], now: datetime) -> list[Line]:
    """A line for each of CPU, RAM, GPUs and their memory: its last samples, and the newest in figures.

    Of a worker that is not heard no figure is shown: what it told is no longer so.
    """
    if not held:
        return []
    if not is_fresh(worker, now):
        return [_fact("load", [(f"unknown: last heard {ago(worker.last_heard_at, now)} ago", "warn")])]
    able, seen = worker.capability, held[-SPARK_CELLS:]
    lines = [
        _load("cpu", [one.cpu_pct for one in seen], 100, "{:.0f}%"),
        _load("ram", [one.ram_used_gib for one in seen], able.ram_gib, "{:.1f} of {:.0f} GiB"),
    ]
    for at, last in enumerate(seen[-1].gpus):
        number = f" {at}" if len(seen[-1].gpus) > 1 else ""
        gpus = [one.gpus[at] if at < len(one.gpus) else GpuGauge() for one in seen]
        heat = "" if last.temperature_c is None else f"  {last.temperature_c:.0f} °C"
        lines.append(_load(f"gpu{number}", [gpu.busy_pct for gpu in gpus], 100, "{:.0f}%" + heat))
        memory = able.gpus[at].vram_gib if at < len(able.gpus) else 0.0
        used = [gpu.vram_used_gib for gpu in gpus]
        lines.append(_load(f"vram{number}", used, memory, "{:.1f} of {:.0f} GiB"))
    if (free := seen[-1].disk_free_gib) is not None:
        lines.append(_fact("disk", [(f"{free:.0f} GiB free", "plain")]))
    return [line for line in lines if line]


def _load(label: str, values: Sequence[float | None], most: float, words: str) -> Line:
    if all(value is None for value in values):
        return []
    most = most or max(value for value in values if value is not None) or 1.0
    last = "–" if values[-1] is None else words.format(values[-1], most)
    return _fact(label, [(spark(values, most), "accent"), (f"  {last}", "plain")])


def log_label(chosen: AttemptView | None) -> str:
    """The log's name; an earlier attempt's is told from the current one's."""
    if chosen is None:
        return "log"
    ended = f", {chosen.status}" if chosen.ended_at else ""
    return f"log of attempt {chosen.number} on {one_line(chosen.worker)}{ended}"


def curves_text(told: JobMetrics, width: int) -> list[str]:
    """Each curve below its name and its last value."""
    lines: list[str] = []
    for name, points in told.series.items():
        step, value, _ = points[-1]
        last = "no number" if value is None else figure(value)
        lines += [f"{one_line(name)}  {last} at step {step}", *plot(points, width, CURVE_ROWS), ""]
    return lines[:-1] or ["No metrics yet."]


def worker_title(worker: WorkerView, store: Store, now: datetime) -> Line:
    heard = f"heard {ago(worker.last_heard_at, now)} ago"
    return joined(
        [(one_line(worker.name), "strong")],
        [worker_state(worker, now, busy=bool(store.running_on(worker)))],
        [(heard, "dim")],
    )


def worker_facts(worker: WorkerView, store: Store, now: datetime) -> list[Line]:
    able = worker.capability
    running = [row.job.name for row in store.running_on(worker)]
    gpus = [f"{gpu.name} {gpu.vram_gib:.0f} GiB ({gpu.kind})" for gpu in able.gpus]
    machine = [f"{able.cores} cores", f"{able.ram_gib:.1f} GiB RAM", *(gpus or ["no GPU"]), able.os, able.cpu]
    commit = (
        f" · commit {able.git_commit[:10]}{' with changes' * bool(able.git_dirty)}" if able.git_commit else ""
    )
    facts = {
        "models": " ".join(able.models) or "none",
        "machine": " · ".join(filter(None, machine)),
        "software": f"fleet {worker.version} · Python {able.python or '?'} · torch {able.torch or 'none'}{commit}",
        "about": worker.description,
    }
    return [
        _fact("running", [(one_line(", ".join(running) or "nothing"), "plain")]),
        *load_lines(worker, list(store.gauges.get(worker.worker, ())), now),
        *(_fact(label, [(one_line(text), "plain")]) for label, text in facts.items() if text),
    ]
