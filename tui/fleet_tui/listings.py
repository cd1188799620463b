"""The lists: which rows, under which columns, drawn how. Pure: the store, a query and a clock in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rich.cells import cell_len

from fleet_protocol.states import JobStatus
from fleet_protocol.workers import WorkerView
from fleet_tui.cells import (
    EVENT_COLUMNS,
    FAILURE_COLUMNS,
    JOB_COLUMNS,
    WORKER_COLUMNS,
    Column,
    event_cells,
    failure_cells,
    gpu_text,
    group_line,
    handled_cells,
    job_cells,
    laid_out,
    layout,
    worker_cells,
)
from fleet_tui.log import LogText
from fleet_tui.query import GROUPS, Entry, Heading, Query, Ranking, Test, fingerprint, grouped
from fleet_tui.store import EventRow, Store
from fleet_tui.text import Line, fit, one_line, widest

Text = Sequence[str] | LogText
Clock = Callable[[], datetime]
Cells = Callable[[str, int], list[Line]]
"""Row id and the last column's width to one line per column."""


def headed(heading: Heading, width: int) -> Line:
    count = f"  × {heading.count}"
    return [(fit(heading.title, min(cell_len(heading.title), width - len(count))), "strong"), (count, "dim")]


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
    heading: Callable[[Heading, int], Line] = headed

    def title(self, width: int) -> Line:
        sizes = layout(self.columns, self.wanted, width)
        return laid_out([[(column.title, "dim")] for column in self.columns], self.columns, sizes)

    def line(self, row_id: str, width: int) -> Line:
        sizes = layout(self.columns, self.wanted, width)
        return laid_out(self.cells(row_id, sizes[-1]), self.columns, sizes)


def jobs_listing(store: Store, ranking: Ranking, clock: Clock, group: str = "") -> Listing:
    def cells(job_id: str, width: int) -> list[Line]:
        row = store.jobs[job_id]
        return job_cells(row, store.worker_named(row.job.worker), clock(), width)

    ids = ranking.ids(store.jobs, clock())
    names, models, workers = ranking.widths
    empty = ["No job passes the filter.", "Esc clears it."] if store.jobs else EMPTY_FLEET
    entries = grouped(map(store.jobs.__getitem__, ids), GROUPS[group]) if group else ids
    return Listing(
        entries=entries,
        columns=JOB_COLUMNS,
        wanted=[11, names, models, 9, workers, 6, 0],
        cells=cells,
        empty=empty,
        total=max(len(store.jobs), len(entries)),
    )


EMPTY_FLEET = ["No jobs yet.", "Queue a manifest's with:  fleet reload training_manifest.toml"]


HANDLED = "handled: requeued, not over yet"
AGAIN = "again "
"""In front of a handled job's id: another row than its failure was, so that the cursor stays among the failures."""


def job_of(row_id: str) -> str:
    return row_id.removeprefix(AGAIN)


def failures_listing(store: Store, query: Query, clock: Clock) -> Listing:
    """What failed, by error; below it what was requeued since, until that is over."""
    failed = [row for row in store.jobs.values() if row.job.status is JobStatus.FAILED]
    shown = replace(query, group=lambda row: one_line(fingerprint(row)))
    entries = shown.run(failed, clock())
    if all(entry.count == 1 for entry in entries if isinstance(entry, Heading)):
        entries = [entry for entry in entries if isinstance(entry, str)]
    again = [store.jobs[job_id] for job_id in store.handled]
    if ids := tuple(replace(query, sort="updated").ids(again, clock())):
        entries += [Heading(HANDLED, len(ids)), *(AGAIN + job_id for job_id in ids)]

    def cells(row_id: str, _: int) -> list[Line]:
        handled = store.handled.get(job_of(row_id)) if row_id.startswith(AGAIN) else None
        row = store.jobs[job_of(row_id)]
        return handled_cells(row, handled, clock()) if handled else failure_cells(row, clock())

    def heading(entry: Heading, width: int) -> Line:
        if entry.title == HANDLED:
            return headed(entry, width)
        return group_line(entry.title, [store.jobs[one] for one in entry.ids], clock(), width)

    known = [*failed, *again]
    wanted = [11, widest(row.job.name for row in known), 5, widest(row.job.worker for row in known), 6, 0]
    empty = ["No failure passes the filter.", "Esc clears it."] if failed else ["No job has failed."]
    total = max(len(known), len(entries))
    return Listing(entries, FAILURE_COLUMNS, wanted, cells, empty, total, heading)


def alike(listing: Listing, row_id: str | None) -> tuple[str, ...]:
    """The rows under the heading of `row_id`; itself where it stands under none."""
    ids = (entry.ids for entry in listing.entries if isinstance(entry, Heading))
    return next((group for group in ids if row_id in group), (row_id,) if row_id else ())


def workers_listing(store: Store, keep: Test[WorkerView], clock: Clock) -> Listing:
    """Live workers first."""

    def cells(worker_id: str, _: int) -> list[Line]:
        worker = store.workers[worker_id]
        return worker_cells(worker, [row.job.name for row in store.running_on(worker)], clock())

    workers = [worker for worker in store.workers.values() if keep(worker, clock())]
    workers.sort(key=lambda worker: (not worker.live, worker.name, worker.worker))
    names, gpus = widest(worker.name for worker in workers), widest(map(gpu_text, workers))
    systems = widest(worker.capability.os for worker in workers)
    empty = ["No worker passes the filter.", "Esc clears it."] if store.workers else NO_WORKERS
    return Listing(
        entries=[worker.worker for worker in workers],
        columns=WORKER_COLUMNS,
        wanted=[10, names, 5, 5, 9, gpus, 4, 4, 6, systems, 0],
        cells=cells,
        empty=empty,
        total=len(store.workers),
    )


NO_WORKERS = ["No worker has said hello yet.", "Start one on any machine with:  fleet-agent run"]


def events_listing(store: Store, keep: Test[EventRow], clock: Clock) -> Listing:
    """The newest first."""
    rows = {str(event.event): event for event in reversed(store.events) if keep(event, clock())}

    def cells(event_id: str, _: int) -> list[Line]:
        return event_cells(rows[event_id], clock())

    names, kinds = widest(row.name for row in rows.values()), widest({row.kind for row in rows.values()})
    actors = widest({row.actor for row in rows.values()})
    empty = (
        ["No event passes the filter.", "Esc clears it."] if store.events else ["Nothing has happened yet."]
    )
    return Listing(
        list(rows), EVENT_COLUMNS, [6, 2 + kinds, names, actors, 0], cells, empty, len(store.events)
    )


def unconnected(listing: Listing, url: str, why: str) -> Listing:
    """The same list before the first word from the coordinator: says what is being tried."""
    if not why:
        return replace(listing, empty=[f"Connecting to {one_line(url)} …"])
    return replace(
        listing, empty=[one_line(why), f"Still trying. Is it running?  fleet-server serve   (this is {url})"]
    )
