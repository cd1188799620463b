"""What is looked at: which of the five views, filtered and ordered how. Pure; the store is only read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fleet_protocol.workers import WorkerView
from fleet_tui import listings
from fleet_tui.query import EVENTS, GROUPS, JOBS, SORTS, WORKERS, Query, Ranking, parsed
from fleet_tui.store import Changes, JobRow, Store

View = Literal["jobs", "failures", "workers", "metrics", "events"]
List = Literal["jobs", "failures", "workers", "events"]
VIEWS: tuple[View, ...] = ("jobs", "failures", "workers", "metrics", "events")
LISTS: tuple[List, ...] = ("jobs", "failures", "workers", "events")
Subject = JobRow | WorkerView

SAMPLES: dict[List, str] = {
    "jobs": "name  state:failed  err~memory  age>2h  -model:gbt",
    "failures": "name  err~memory  age>2h  -model:gbt",
    "workers": "name  state:live  gpu~3060  cores>8  -os:windows",
    "events": "name  kind:failed  actor:operator  age<1h  -model:gbt",
}


class Views:
    """Metrics are drawn of the list of jobs: its cursor, its marks, its filter."""

    def __init__(self) -> None:
        self.view: View = "jobs"
        self.sort, self.descending = "status", False
        self.group = ""
        """Of the jobs; one of `GROUPS`, or none."""
        self._typed: dict[List, str] = dict.fromkeys(LISTS, "")
        self._asked = ("", self.sort, self.descending)
        self._ranking = Ranking(self._query)

    @property
    def listed(self) -> List:
        return "jobs" if self.view == "metrics" else self.view

    @property
    def typed(self) -> str:
        """The filter of this view's list."""
        return self._typed[self.listed]

    @property
    def is_sorted(self) -> bool:
        """The operator chooses the order."""
        return self.listed in ("jobs", "failures")

    @property
    def _sort(self) -> str:
        """All failures have the same status: the last one comes first."""
        return "updated" if self.listed == "failures" and self.sort == "status" else self.sort

    @property
    def order(self) -> str:
        """The order that the operator chose, in words."""
        if not self.is_sorted:
            return ""
        by = f" by {self.group}" if self.group and self.listed == "jobs" else ""
        return f"sort {self._sort}{' reversed' * self.descending}{by}"

    def offers(self, action: str, *parameters: object) -> bool:
        """Whether a key that does this means anything here."""
        match action, parameters:
            case "order", ("drain" | "resume", *_):
                return self.view == "workers"
            case "order", (_, True):
                return self.view == "failures"
            case "order", _:
                return self.listed != "workers"
            case (("sort" | "reverse"), _):
                return self.is_sorted
            case (("why" | "curves"), _):
                return self.view not in ("workers", "metrics")
            case ("group", _):
                return self.listed == "jobs"
            case (("plot" | "curve"), _):
                return self.view == "metrics"
            case _:
                return True

    def set_filter(self, text: str) -> None:
        """FilterError for one that cannot be read; the one before stays."""
        match self.listed:
            case "workers":
                parsed(text, WORKERS)
            case "events":
                parsed(text, EVENTS)
            case _:
                parsed(text, JOBS)
        self._typed[self.listed] = text

    def next_sort(self) -> None:
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]

    def next_group(self) -> None:
        names = ["", *GROUPS]
        self.group = names[(names.index(self.group) + 1) % len(names)]

    def is_touched(self, changes: Changes) -> bool:
        """Rows of the list came, went or moved. To be told of every change, so that the order is kept up."""
        self._ranking.moved(changes.jobs)
        match self.listed:
            case "workers":
                return changes.order or changes.workers
            case "events":
                return changes.events
            case _:
                return changes.order

    def listing(self, store: Store, clock: listings.Clock) -> listings.Listing:
        match self.listed:
            case "workers":
                return listings.workers_listing(store, parsed(self.typed, WORKERS), clock)
            case "events":
                return listings.events_listing(store, parsed(self.typed, EVENTS), clock)
            case "failures":
                return listings.failures_listing(store, self._query, clock)
            case _:
                return listings.jobs_listing(store, self._ranked(), clock, self.group)

    @property
    def _query(self) -> Query:
        return Query(parsed(self.typed, JOBS), self._sort, self.descending)

    def _ranked(self) -> Ranking:
        """The one of before while it holds; ages change without a word from the coordinator."""
        asked = (self.typed, self.sort, self.descending)
        if asked != self._asked or "age" in self.typed:
            self._asked, self._ranking = asked, Ranking(self._query)
        return self._ranking

    def subjects(self, store: Store, row_ids: Iterable[str]) -> list[Subject]:
        """The jobs and workers that rows of the list are about, each once, in the order of the rows."""
        wanted = dict.fromkeys(map(listings.job_of, row_ids))
        if self.listed == "events":
            about = [event for event in store.events if str(event.event) in wanted]
            wanted = dict.fromkeys(event.job_id or event.worker_id or "" for event in about)
        found = (store.jobs.get(one) or store.workers.get(one) for one in wanted)
        return [subject for subject in found if subject is not None]
