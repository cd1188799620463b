"""The three lists: which rows, under which columns, drawn how. Pure: the store, a query and a clock in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rich.cells import cell_len

from fleet_protocol.states import JobStatus
from fleet_tui.cells import (
    FAILURE_COLUMNS,
    JOB_COLUMNS,
    WORKER_COLUMNS,
    Column,
    failure_cells,
    gpu_text,
    job_cells,
    laid_out,
    layout,
    worker_cells,
)
from fleet_tui.log import LogText
from fleet_tui.query import Entry, Heading, Query, Test, fingerprint
from fleet_tui.store import JobRow, Store
from fleet_tui.text import Line, one_line

Text = Sequence[str] | LogText
Clock = Callable[[], datetime]
Cells = Callable[[str, int], list[Line]]
"""Row id and the last column's width to one line per column."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list's entries and how each of them is drawn at a given width."""

    entries: Sequence[Entry]
    columns: tuple[Column, ...]
    wanted: list[int]
    """Cells that each column's contents would fill."""
    cells: Cells
    empty: Sequence[str]
    """What to say where there is no row."""
    total: int
    """Lines that it would have without a filter."""

    def title(self, width: int) -> Line:
        sizes = layout(self.columns, self.wanted, width)
        return laid_out([[(column.title, "dim")] for column in self.columns], self.columns, sizes)

    def line(self, row_id: str, width: int) -> Line:
        sizes = layout(self.columns, self.wanted, width)
        return laid_out(self.cells(row_id, sizes[-1]), self.columns, sizes)


def widest(texts: Iterable[str | None]) -> int:
    return max((cell_len(text) for text in texts if text), default=0)


def jobs_listing(store: Store, query: Query, clock: Clock) -> Listing:
    def cells(job_id: str, width: int) -> list[Line]:
        row = store.jobs[job_id]
        return job_cells(row, store.worker_named(row.job.worker), clock(), width)

    jobs = [row.job for row in store.jobs.values()]
    names, models = widest(job.name for job in jobs), widest({job.model for job in jobs})
    workers = widest({job.worker for job in jobs})
    empty = ["No job passes the filter.", "Esc clears it."] if jobs else EMPTY_FLEET
    return Listing(
        entries=query.run(store.jobs.values(), clock()),
        columns=JOB_COLUMNS,
        wanted=[11, names, models, 9, workers, 6, 0],
        cells=cells,
        empty=empty,
        total=len(jobs),
    )


EMPTY_FLEET = ["No jobs yet.", "Queue a manifest's with:  fleet reload training_manifest.toml"]


def failures_listing(store: Store, query: Query, clock: Clock) -> Listing:
    def cells(job_id: str, _: int) -> list[Line]:
        return failure_cells(store.jobs[job_id], clock())

    def group(row: JobRow) -> str:
        return one_line(fingerprint(row))

    failed = [row for row in store.jobs.values() if row.job.status is JobStatus.FAILED]
    wanted = [11, widest(row.job.name for row in failed), 5, widest(row.job.worker for row in failed), 6, 0]
    sort = "updated" if query.sort == "status" else query.sort  # all of them have the same status
    entries = Query(query.keep, sort, query.descending, group).run(failed, clock())
    if all(entry.count == 1 for entry in entries if isinstance(entry, Heading)):
        entries = [entry for entry in entries if isinstance(entry, str)]
    empty = ["No failure passes the filter.", "Esc clears it."] if failed else ["No job has failed."]
    return Listing(entries, FAILURE_COLUMNS, wanted, cells, empty, total=max(len(failed), len(entries)))


def workers_listing(store: Store, keep: str, clock: Clock) -> Listing:
    """Live workers first; `keep` is a text that the name has to contain."""

    def cells(worker_id: str, _: int) -> list[Line]:
        worker = store.workers[worker_id]
        return worker_cells(worker, [row.job.name for row in store.running_on(worker)], clock())

    workers = [worker for worker in store.workers.values() if keep.lower() in worker.name.lower()]
    workers.sort(key=lambda worker: (not worker.live, worker.name, worker.worker))
    names, gpus = widest(worker.name for worker in workers), widest(map(gpu_text, workers))
    systems = widest(worker.capability.os for worker in workers)
    empty = ["No worker passes the filter.", "Esc clears it."] if store.workers else NO_WORKERS
    return Listing(
        entries=[worker.worker for worker in workers],
        columns=WORKER_COLUMNS,
        wanted=[10, names, 5, 5, 9, gpus, 6, systems, 0],
        cells=cells,
        empty=empty,
        total=len(store.workers),
    )


NO_WORKERS = ["No worker has said hello yet.", "Start one on any machine with:  fleet-agent run"]
EVERYTHING: Test = lambda row, now: True  # noqa: E731  (a value of the type, like any other test)


def unconnected(listing: Listing, url: str, why: str) -> Listing:
    """The same list before the first word from the coordinator: says what is being tried."""
    if not why:
        return replace(listing, empty=[f"Connecting to {one_line(url)} …"])
    return replace(
        listing, empty=[one_line(why), f"Still trying. Is it running?  fleet-server serve   (this is {url})"]
    )
