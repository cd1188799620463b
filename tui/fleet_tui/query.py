"""Which rows to show and in which order. Pure: rows and the time in, ids out.

The filter's words are all required: `text` (in name or model, or the beginning of an id), `field:text`,
`field~regex`, `field>number`, `field<number`; a comma means or, a leading `-` means not.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import total_ordering
from typing import Any, Generic, TypeVar

from fleet_protocol.jobs import JobView
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import WorkerView
from fleet_tui.store import EventRow, JobRow
from fleet_tui.text import widest

R = TypeVar("R")
Test = Callable[[R, datetime], bool]


class FilterError(ValueError):
    """A filter that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A line of a list that stands for the rows below it."""

    title: str
    count: int
    ids: tuple[str, ...] = ()
    """Of the rows below it."""


Entry = str | Heading
"""A row's id, or a heading."""


ID_BEGINNING = re.compile(r"[0-9a-f]{4,16}")


def since(row: JobRow, now: datetime) -> float:
    """Seconds: how long a job has waited, runs, or took."""
    job = row.job
    begun = (job.started_at or job.queued_at) if row.job.status != JobStatus.PENDING else job.queued_at
    ended = job.finished_at if job.status.is_terminal else None
    return max(0.0, ((ended or now) - begun).total_seconds())


def headline(row: JobRow) -> float | None:
    return next((metric.value for metric in row.job.metrics.values()), None)


@dataclass(frozen=True, slots=True)
class Fields(Generic[R]):
    """What a filter may ask of one kind of row."""

    texts: dict[str, Callable[[R], str]]
    numbers: dict[str, Callable[[R, datetime], float | None]]
    names: tuple[str, ...]
    """The texts that a word without a field is looked for in. Orders go to all that a filter leaves, so it must not
    find more than meant: a figure is in many a reason."""


JOBS: Fields[JobRow] = Fields(
    texts={
        "name": lambda row: row.job.name,
        "id": lambda row: row.job.job_id,
        "state": lambda row: row.job.status.value,
        "model": lambda row: row.job.model,
        "mode": lambda row: row.job.mode,
        "worker": lambda row: row.job.worker or "",
        "err": lambda row: row.reason,
    },
    numbers={
        "age": since,
        "metric": lambda row, _: headline(row),
        "priority": lambda row, _: row.job.priority,
        "attempts": lambda row, _: row.job.attempts,
    },
    names=("name", "model"),
)
WORKERS: Fields[WorkerView] = Fields(
    texts={
        "name": lambda worker: worker.name,
        "id": lambda worker: worker.worker,
        "state": lambda worker: "lost" if not worker.live else "draining" if worker.draining else "live",
        "model": lambda worker: " ".join(worker.capability.models),
        "gpu": lambda worker: " ".join(gpu.name for gpu in worker.capability.gpus),
        "os": lambda worker: worker.capability.os,
    },
    numbers={
        "age": lambda worker, now: (now - worker.last_heard_at).total_seconds(),
        "cores": lambda worker, _: worker.capability.cores,
        "ram": lambda worker, _: worker.capability.ram_gib,
        "vram": lambda worker, _: worker.capability.vram_gib,
    },
    names=("name",),
)
EVENTS: Fields[EventRow] = Fields(
    texts={
        "name": lambda event: event.name,
        "id": lambda event: event.job_id or event.worker_id,
        "kind": lambda event: event.kind,
        "actor": lambda event: event.actor,
        "state": lambda event: event.state,
        "model": lambda event: event.model,
        "mode": lambda event: event.mode,
        "worker": lambda event: event.worker,
        "err": lambda event: event.detail,
    },
    numbers={"age": lambda event, now: (now - event.at).total_seconds()},
    names=("name", "kind", "actor"),
)
ALIASES = {"status": "state", "reason": "err", "error": "err", "attempt": "attempts", "prio": "priority"}
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
WORD = re.compile(r"^(?P<no>-?)(?P<field>[a-z]+)(?P<op>[:~<>])(?P<value>.*)$")


def parse_filter(text: str) -> Test[JobRow]:
    return parsed(text, JOBS)


def parsed(text: str, fields: Fields[R]) -> Test[R]:
    """A test for rows; FilterError when a field, a number or a regular expression cannot be understood."""
    tests = [_parse_word(word, fields) for word in text.split()]
    return lambda row, now: all(test(row, now) for test in tests)


def _parse_word(word: str, fields: Fields[R]) -> Test[R]:
    match = WORD.match(word)
    if match is None:
        wanted = word.removeprefix("-").lower()
        bare = _bare_test(wanted, fields)
        return _inverted(bare) if word.startswith("-") and wanted else bare
    field = ALIASES.get(match["field"], match["field"])
    test = (_number_test if match["op"] in "<>" else _text_test)(field, match["op"], match["value"], fields)
    return _inverted(test) if match["no"] else test


def _bare_test(wanted: str, fields: Fields[R]) -> Test[R]:
    """Of what a person calls a row by: a name, or the beginning of an id."""
    gets, get_id = [fields.texts[name] for name in fields.names], fields.texts["id"]
    may_be_id = ID_BEGINNING.fullmatch(wanted) is not None

    def test(row: R, _: datetime) -> bool:
        named = any(wanted in get(row).lower() for get in gets)
        return named or (may_be_id and get_id(row).startswith(wanted))

    return test


def _inverted(test: Test[R]) -> Test[R]:
    return lambda row, now: not test(row, now)


def _text_test(field: str, operator: str, value: str, fields: Fields[R]) -> Test[R]:
    if field not in fields.texts:
        raise FilterError(f"no field {field!r}; there are {', '.join((*fields.texts, *fields.numbers))}")
    get = fields.texts[field]
    if operator == "~":
        try:
            pattern = re.compile(value, re.IGNORECASE)
        except re.error as error:
            raise FilterError(f"{value!r} is no regular expression: {error}") from error
        return lambda row, _: pattern.search(get(row)) is not None
    wanted = [part for part in value.lower().split(",") if part]
    return lambda row, _: any(part in get(row).lower() for part in wanted) if wanted else True


def _number_test(field: str, operator: str, value: str, fields: Fields[R]) -> Test[R]:
    if field not in fields.numbers:
        raise FilterError(f"{field!r} is no number; numbers are {', '.join(fields.numbers)}")
    if not value:
        return lambda row, now: True
    match = re.fullmatch(r"(-?\d*\.?\d+)([smhd]?)", value)
    if match is None:
        raise FilterError(f"{value!r} is no number (age takes 90s, 5m, 2h, 1d)")
    get, limit = fields.numbers[field], float(match[1]) * UNITS[match[2]]

    def compare(row: R, now: datetime) -> bool:
        number = get(row, now)
        return number is not None and (number > limit if operator == ">" else number < limit)

    return compare


ATTENTION = (
    JobStatus.RUNNING,
    JobStatus.CLAIMED,
    JobStatus.FAILED,
    JobStatus.PENDING,
    JobStatus.CANCELLED,
    JobStatus.COMPLETED,
)
"""What an operator wants to see first."""

SortKey = Callable[[JobRow], tuple[object, ...]]
SORTS: dict[str, SortKey] = {
    "status": lambda row: (ATTENTION.index(row.job.status),),
    "name": lambda row: (row.job.name,),
    "model": lambda row: (row.job.model, row.job.mode),
    "worker": lambda row: (row.job.worker is None, row.job.worker or ""),
    "metric": lambda row: (headline(row) is None, -(headline(row) or 0.0)),
    "updated": lambda row: (-row.job.updated_at.timestamp(),),
}
"""Orders by name; rows that are equal in one stay in the order of the queue."""


GROUPS: dict[str, Callable[[JobRow], str]] = {
    "model": lambda row: row.job.model,
    "worker": lambda row: row.job.worker or "no worker yet",
    "status": lambda row: row.job.status.value,
}
"""What jobs may stand under."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a list shows: rows that pass `keep`, in the order `sort`, under headings by `group`."""

    keep: Test[JobRow]
    sort: str = "status"
    descending: bool = False
    group: Callable[[JobRow], str] | None = None

    def run(self, rows: Iterable[JobRow], now: datetime) -> list[Entry]:
        kept = self.sorted(rows, now)
        return grouped(kept, self.group) if self.group else [row.job.job_id for row in kept]

    def ids(self, rows: Iterable[JobRow], now: datetime) -> list[str]:
        """Without headings."""
        return [row.job.job_id for row in self.sorted(rows, now)]

    def sorted(self, rows: Iterable[JobRow], now: datetime) -> list[JobRow]:
        kept = [row for row in rows if self.keep(row, now)]
        kept.sort(key=self.place)
        return kept

    def place(self, row: JobRow) -> tuple[object, ...]:
        """What rows are ordered by."""
        job = row.job
        first: object = SORTS[self.sort](row)
        queue = (-job.priority, job.queued_at, job.name, job.job_id)
        return (_Last(first) if self.descending else first, queue)


@total_ordering
@dataclass(frozen=True, slots=True)
class _Last:
    """Orders the other way round."""

    key: Any

    def __lt__(self, other: _Last) -> bool:
        return bool(other.key < self.key)


class Ranking:
    """A query's ids over rows that are replaced one by one: only what was replaced is looked for a place again.

    For a query that does not ask for the time.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._rows: Mapping[str, JobRow] | None = None
        self._moved: set[str] = set()
        self._places: dict[str, tuple[object, ...]] = {}
        self._keys: list[tuple[object, ...]] = []
        self._ids: list[str] = []
        """In the order of `_keys`."""
        self.widths: tuple[int, ...] = (0, 0, 0)
        """Cells of the longest name, model and worker that was among the rows, filtered or not."""

    def moved(self, ids: Iterable[str]) -> None:
        """These rows were replaced, or came."""
        self._moved.update(ids)

    def ids(self, rows: Mapping[str, JobRow], now: datetime) -> list[str]:
        """As `Query.ids`; another mapping than before is read anew."""
        if rows is not self._rows or len(self._moved) > len(rows) // 8:
            kept = self._query.sorted(rows.values(), now)
            self._rows = rows
            self._ids = [row.job.job_id for row in kept]
            self._keys = [self._query.place(row) for row in kept]
            self._places = dict(zip(self._ids, self._keys, strict=True))
            self.widths = _widths(row.job for row in rows.values())
        else:
            replaced = [(one, rows[one]) for one in self._moved if one in rows]
            for one, row in replaced:
                self._replace(one, row, now)
            wider = zip(self.widths, _widths(row.job for _, row in replaced), strict=True)
            self.widths = tuple(map(max, wider))
        self._moved.clear()
        return self._ids

    def _replace(self, job_id: str, row: JobRow, now: datetime) -> None:
        place = self._query.place(row) if self._query.keep(row, now) else None
        before = self._places.pop(job_id, None)
        if before is not None and before != place:
            at = bisect_left(self._keys, before)
            del self._keys[at], self._ids[at]
        if place is not None:
            self._places[job_id] = place
            if before != place:
                at = bisect_left(self._keys, place)
                self._keys.insert(at, place)
                self._ids.insert(at, job_id)


def _widths(jobs: Iterable[JobView]) -> tuple[int, ...]:
    told = list(jobs)
    models, workers = {job.model for job in told}, {job.worker for job in told}
    return widest(job.name for job in told), widest(models), widest(workers)


def grouped(rows: Iterable[JobRow], group: Callable[[JobRow], str]) -> list[Entry]:
    """Rows under headings, the largest group first, each group in the order of `rows`."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row.job.job_id)
    entries: list[Entry] = []
    for title, ids in sorted(groups.items(), key=lambda item: -len(item[1])):
        entries += [Heading(title, len(ids), tuple(ids)), *ids]
    return entries


VARYING = re.compile(
    r"0x[0-9a-f]+|\b(?=[0-9a-f-]*\d)[0-9a-f]{8}[0-9a-f-]*\b"
    r"|(?<![\w/\\])(?:[a-z]:[\\/]|~?/|\.{1,2}/)[^\s'\",:;)\]]+"
    r"|\d[\d.,]*(?:e[+-]?\d+)?",
    re.IGNORECASE,
)
"""Addresses and ids, paths, numbers."""


def fingerprint(row: JobRow) -> str:
    """An error without what differs from one job to the next: the first line that says something."""
    first = next((line for line in row.reason.splitlines() if line.strip()), "no reason was given")
    return VARYING.sub("…", first.strip())
