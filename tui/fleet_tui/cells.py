"""What a row says in each column: pure text with a meaning (`Tone`), never a colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_protocol.jobs import JobView, Metric, Progress
from fleet_protocol.states import AttemptStatus, JobStatus
from fleet_protocol.workers import WorkerView
from fleet_tui.query import since
from fleet_tui.store import EventRow, Handled, JobRow
from fleet_tui.text import Line, Span, Tone, fit, line_width, one_line

SUSPECT_AFTER = timedelta(seconds=60)
"""A worker that went unheard for longer is shown as silent; only the coordinator's lease ends anything."""

STATUS: dict[str, tuple[str, Tone]] = {
    "pending": ("○", "dim"),
    "claimed": ("◐", "accent"),
    "running": ("●", "accent"),
    "completed": ("✓", "good"),
    "failed": ("✗", "bad"),
    "cancelled": ("⊘", "dim"),
    "released": ("↺", "dim"),
    "lost": ("✗", "warn"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `most` cells at most (None: the rest of the line), dropped when narrower than `since_width`."""

    title: str
    least: int
    most: int | None
    from_width: int = 0
    right: bool = False


JOB_COLUMNS = (
    Column("STATUS", 11, 11),
    Column("NAME", 12, 44),
    Column("MODEL", 5, 15, from_width=92),
    Column("MODE", 9, 9, from_width=108),
    Column("WORKER", 6, 18, from_width=66),
    Column("TIME", 6, 6, from_width=54, right=True),
    Column("PROGRESS · RESULT", 19, None),
)
FAILURE_COLUMNS = (
    Column("STATUS", 11, 11),
    Column("NAME", 12, 44),
    Column("TRIES", 5, 5, from_width=60, right=True),
    Column("WORKER", 6, 18, from_width=66),
    Column("AGO", 6, 6, right=True),
    Column("ERROR", 17, None),
)
WORKER_COLUMNS = (
    Column("STATE", 10, 10),
    Column("NAME", 10, 30),
    Column("JOBS", 5, 5, right=True),
    Column("CORES", 5, 5, right=True),
    Column("RAM", 9, 9, from_width=66, right=True),
    Column("GPU", 4, 28),
    Column("CPU", 4, 4, from_width=96, right=True),
    Column("GPU", 4, 4, from_width=96, right=True),
    Column("HEARD", 6, 6, right=True),
    Column("OS", 5, 30, from_width=130),
    Column("RUNNING", 10, None),
)
EVENT_COLUMNS = (
    Column("AGO", 6, 6, right=True),
    Column("EVENT", 9, 16),
    Column("OF", 12, 44),
    Column("BY", 8, 24, from_width=66),
    Column("DETAIL", 10, None),
)
GAP = 2


def layout(columns: tuple[Column, ...], wanted: list[int], width: int) -> list[int]:
    """Each column's cells for a line of `width`, 0 where it is dropped.

    `wanted` is what the rows would fill. The last column takes the rest; when that is too little, the
    widest of the others gives way first.
    """
    sizes = [
        0 if width < column.from_width else max(column.least, min(want, column.most or want))
        for column, want in zip(columns, wanted, strict=True)
    ]
    rest = columns[-1].least
    while (over := sum(sizes[:-1]) + GAP * sum(map(bool, sizes[:-1])) + rest - width) > 0:
        widest = max(range(len(sizes) - 1), key=lambda index: sizes[index] - columns[index].least)
        if sizes[widest] <= columns[widest].least:
            break
        sizes[widest] -= min(over, sizes[widest] - columns[widest].least)
    sizes[-1] = max(0, width - sum(sizes[:-1]) - GAP * sum(map(bool, sizes[:-1])))
    return sizes


def laid_out(cells: list[Line], columns: tuple[Column, ...], sizes: list[int]) -> Line:
    """One line: each cell in its column's width, `GAP` blanks between them.

    The blanks belong to the pieces before them: each piece of its own costs a terminal some forty bytes.
    """
    line: Line = []
    for cell, column, size in zip(cells, columns, sizes, strict=True):
        if size:
            gap = " " * (GAP if column is not columns[-1] else 0)
            *pieces, (text, tone) = cell or [("", "plain")]
            room = max(0, size - line_width(pieces))
            line += [*pieces, (fit(text, room, right=column.right) + gap, tone)]
    return line


def duration(seconds: float) -> str:
    """A length of time in at most six characters: `45s`, `3m12s`, `2h05m`, `3d04h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def coarse(seconds: float) -> str:
    """One unit only, for what nobody watches by the second: `45s`, `3m`, `2h`, `3d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def ago(moment: datetime, now: datetime) -> str:
    return coarse(max(0.0, (now - moment).total_seconds()))


def figure(value: float) -> str:
    """Four significant digits, without an exponent where that stays short."""
    return f"{value:.3f}" if 0.001 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def interval(metric: Metric) -> str:
    """`0.894–0.929`, or nothing where none was estimated."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{figure(metric.low)}–{figure(metric.high)}"


def metric_cell(job: JobView, width: int) -> Line:
    """The headline metric with its interval; its name only where there is room for it."""
    if not job.metrics:
        return []
    name, metric = next(iter(job.metrics.items()))
    value: Line = [(figure(metric.value) + one_line(metric.unit), "strong")]
    spread = interval(metric)
    shown = [*value, (f"  {spread}", "dim")] if spread else value
    named: Line = [*shown, (f"  {one_line(name)}", "dim")]
    return named if line_width(named) <= width else shown


def progress_cell(progress: Progress | None, width: int) -> Line:
    """A bar with the share done, or the step where the total is unknown; what is left and the phase where they fit."""
    if progress is None:
        return []
    phase = one_line(progress.phase or "")
    if not progress.total:
        text = f"step {progress.step}" if progress.step else ""
        return [(text, "plain"), (f"  {phase}" if text else phase, "dim")]
    share = min(1.0, max(0.0, progress.step / progress.total))
    cells = max(4, min(20, width // 2 - 4))
    halves = round(share * cells * 2)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    bar: Line = [(done, "accent"), ("─" * (cells - len(done)), "rule"), (f" {share:4.0%}", "plain")]
    left = progress.eta_seconds
    told = [f"{duration(left)} left"] if left is not None else []
    for words in (told + [phase] * bool(phase), told, [phase] * bool(phase)):
        named: Line = [*bar, ("  " + " · ".join(words), "dim")]
        if words and line_width(named) <= width:
            return named
    return bar


def status_cell(status: JobStatus | AttemptStatus, *, silent: bool = False, stopping: bool = False) -> Line:
    """Glyph and word, so that nothing is said by colour alone."""
    glyph, tone = STATUS[status.value]
    if stopping and status.value in ("claimed", "running"):
        return [("◌ stopping", "warn")]
    if silent:
        return [("! silent", "warn")]
    return [(f"{glyph} {status.value}", tone)]


def is_silent(row: JobRow, worker: WorkerView | None, now: datetime) -> bool:
    """The worker that trains it has gone unheard for so long that its figures are old."""
    return row.job.status.is_active and worker is not None and now - worker.last_heard_at > SUSPECT_AFTER


def time_text(row: JobRow, now: datetime) -> str:
    """How long it runs or took, to the second; how long it waits, roughly."""
    seconds = since(row, now)
    return coarse(seconds) if row.job.status is JobStatus.PENDING else duration(seconds)


def job_cells(row: JobRow, worker: WorkerView | None, now: datetime, width: int) -> list[Line]:
    """The cells of `JOB_COLUMNS`; `width` is the last one's."""
    job = row.job
    return [
        status_cell(job.status, silent=is_silent(row, worker, now), stopping=job.cancel_requested),
        [(one_line(job.name), "plain")],
        [(one_line(job.model), "dim")],
        [(one_line(job.mode), "dim")],
        [(one_line(job.worker or "–"), "plain" if job.status.is_active else "dim")],
        [(time_text(row, now), "plain" if job.status.is_active else "dim")],
        outcome_cell(row, width),
    ]


def outcome_cell(row: JobRow, width: int) -> Line:
    """What matters most of a job now: how far it is, its headline metric, its error, or why it waits."""
    reason = one_line(row.reason)
    match row.job.status:
        case JobStatus.COMPLETED:
            return metric_cell(row.job, width) or [("no metrics", "dim")]
        case JobStatus.RUNNING | JobStatus.CLAIMED if not row.job.cancel_requested:
            return progress_cell(row.progress, width) or [(reason, "dim")]
        case JobStatus.FAILED:
            return [(reason or "no reason was given", "bad")]
        case _:
            return [(reason, "dim")]


def failure_cells(row: JobRow, now: datetime) -> list[Line]:
    job = row.job
    return [
        status_cell(job.status),
        [(one_line(job.name), "plain")],
        [(str(job.attempts), "dim")],
        [(one_line(job.worker or "–"), "dim")],
        [(ago(job.finished_at or job.updated_at, now), "dim")],
        [(one_line(row.reason) or "no reason was given", "bad")],
    ]


def handled_cells(row: JobRow, handled: Handled, now: datetime) -> list[Line]:
    """The cells of `FAILURE_COLUMNS` for a failure that was put back: when, and what it had failed of."""
    job = row.job
    return [
        status_cell(job.status, stopping=job.cancel_requested),
        [(one_line(job.name), "plain")],
        [(str(job.attempts), "dim")],
        [(one_line(job.worker or "–"), "dim")],
        [(ago(handled.at, now), "dim")],
        [(one_line(handled.reason), "dim")],
    ]


def group_line(title: str, rows: Sequence[JobRow], now: datetime, width: int) -> Line:
    """An error with how often, since when and where it was met."""
    ended = sorted(row.job.finished_at or row.job.updated_at for row in rows)
    first, last = ago(ended[0], now), ago(ended[-1], now)
    workers = sorted({one_line(row.job.worker or "no worker") for row in rows})
    where = f"all {len(rows)} on " if len(workers) == 1 < len(rows) else "on "
    where += " ".join(workers) if len(workers) <= 3 else f"{len(workers)} workers"
    note = f"  × {len(rows)}  {first if first == last else f'{first}–{last}'} ago  {where}"
    room = max(12, width - line_width([(note, "dim")]))
    return [(fit(title, min(room, line_width([(title, "strong")]))), "strong"), (note, "dim")]


def event_cells(event: EventRow, now: datetime) -> list[Line]:
    """The cells of `EVENT_COLUMNS`."""
    glyph, tone = STATUS.get(event.kind, ("·", "plain"))
    return [
        [(ago(event.at, now), "dim")],
        [(f"{glyph} {one_line(event.kind)}", tone)],
        [(one_line(event.name), "plain")],
        [(one_line(event.actor), "dim")],
        [(one_line(event.detail), "bad" if event.kind == "failed" else "dim")],
    ]


def worker_state(worker: WorkerView, now: datetime, *, busy: bool) -> Span:
    if not worker.live:
        return "✗ lost", "bad"
    if worker.draining:
        return "◌ draining", "warn"
    if now - worker.last_heard_at > SUSPECT_AFTER:
        return "! silent", "warn"
    return ("● busy", "accent") if busy else ("○ idle", "good")


def gpu_text(worker: WorkerView) -> str:
    gpus = worker.capability.gpus
    if not gpus:
        return "–"
    count = f"{len(gpus)}× " if len(gpus) > 1 else ""
    return one_line(f"{count}{gpus[0].name} {gpus[0].vram_gib:.0f} GiB")


def is_fresh(worker: WorkerView, now: datetime) -> bool:
    """What it last told of its machine may still be so."""
    return worker.live and now - worker.last_heard_at <= SUSPECT_AFTER


def share_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}%"


def worker_cells(worker: WorkerView, names: list[str], now: datetime) -> list[Line]:
    """The cells of `WORKER_COLUMNS`; `names` are the jobs that run there."""
    able = worker.capability
    gauges = worker.gauges if is_fresh(worker, now) else None
    busy = [gpu.busy_pct for gpu in gauges.gpus if gpu.busy_pct is not None] if gauges else []
    return [
        [worker_state(worker, now, busy=bool(names))],
        [(one_line(worker.name), "plain")],
        [(f"{len(names)}/{able.max_jobs}", "plain" if names else "dim")],
        [(str(able.cores), "dim")],
        [(f"{able.ram_gib:.0f} GiB", "dim")],
        [(gpu_text(worker), "dim")],
        [(share_text(gauges.cpu_pct if gauges else None), "plain")],
        [(share_text(max(busy, default=None)), "plain")],
        [(ago(worker.last_heard_at, now), "plain" if worker.live else "bad")],
        [(one_line(able.os), "dim")],
        [(", ".join(one_line(name) for name in names), "plain")],
    ]
