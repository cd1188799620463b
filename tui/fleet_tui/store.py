"""The fleet as the coordinator last told it: a snapshot, then rows replaced by events.

There is no transition logic here: each event carries the row after it. `apply` is a fold, so any way of
cutting the same history into frames and reconnects gives the same rows.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet_protocol.events import Event, EventsFrame, LiveFrame, SnapshotFrame
from fleet_protocol.jobs import JobView, Progress
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import Gauges, WorkerView

Frame = SnapshotFrame | EventsFrame | LiveFrame
HELD_EVENTS = 2000
MOST_EVENTS = 10_000
"""So many are held where the reader went back to them."""
HELD_GAUGES = 120
"""Samples of each worker."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job, with what is true of it now and not part of its history."""

    job: JobView
    progress: Progress | None = None
    points: int = 0
    """How many points of its curves the attempt has told."""
    waiting: str | None = None
    """Why a pending job waits, newer than `job.reason`; None while nothing newer was told."""

    @property
    def reason(self) -> str:
        """Why it failed, waits or is being stopped; empty where there is nothing to say."""
        if self.waiting is not None:
            return self.waiting
        return self.job.reason or ""


@dataclass(frozen=True, slots=True)
class Handled:
    """A failure that was put back into the queue and is not over yet."""

    reason: str
    """What it had failed of."""
    at: datetime


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event without the row after it, save for what it is found by."""

    event: int
    at: datetime
    kind: str
    actor: str
    detail: str
    name: str
    """Of the job or the worker that it is about."""
    job_id: str = ""
    worker_id: str = ""
    state: str = ""
    model: str = ""
    mode: str = ""
    worker: str = ""

    @classmethod
    def of(cls, event: Event) -> EventRow:
        told = (event.event, event.at, event.kind, event.actor, event.detail or "")
        if (job := event.job) is not None:
            what = (job.status.value, job.model, job.mode, job.worker or "")
            return cls(*told, job.name, job.job_id, "", *what)
        if (worker := event.worker) is not None:
            return cls(*told, worker.name, worker_id=worker.worker, worker=worker.name)
        return cls(*told, "")


@dataclass(slots=True)
class Changes:
    """What moved since it was last taken."""

    jobs: set[str] = field(default_factory=set)
    """Ids of rows that look different now."""
    order: bool = False
    """Rows came, went or changed status: lists have to be worked out again."""
    workers: bool = False
    events: bool = False

    def __bool__(self) -> bool:
        return bool(self.jobs) or self.order or self.workers or self.events


def _slim(job: JobView) -> None:
    """Two thirds of a row is pydantic's own set of the fields that were given; nobody asks for it here."""
    object.__setattr__(job, "__pydantic_fields_set__", _GIVEN)


_GIVEN = set(JobView.model_fields)


class Store:
    """Rows by id. Fed with frames in the order in which they arrive; never asks anything itself."""

    def __init__(self) -> None:
        self.fleet = ""
        self.cursor: int | None = None
        """The last event that is in the rows; None before the first snapshot."""
        self.jobs: dict[str, JobRow] = {}
        self.workers: dict[str, WorkerView] = {}
        self.handled: dict[str, Handled] = {}
        """By job: what was requeued since this store saw it fail, until it is over again."""
        self.events: deque[EventRow] = deque()
        """The newest last, none left out between them."""
        self._most_events = HELD_EVENTS
        self._begun = False
        """Nothing happened before the first of them."""
        self.gauges: dict[str, deque[Gauges]] = {}
        """By worker: the last samples as they were told, the newest last."""
        self.told_at: datetime | None = None
        """When the last frame arrived, by this machine's clock."""
        self._active: set[str] = set()
        self._counts: Counter[JobStatus] = Counter()
        self._ahead = timedelta()
        self._changes = Changes()

    def apply(self, frame: Frame, at: datetime) -> None:
        """Fold one frame that arrived `at` (this machine's clock)."""
        self.told_at = at
        match frame:
            case SnapshotFrame():
                self._replace_all(frame)
                self._ahead = frame.server_time - at
            case EventsFrame():
                for event in frame.events:
                    self._apply_event(event)
                self.cursor = max(self.cursor or 0, frame.cursor)
            case LiveFrame():
                self._apply_live(frame)
                self._ahead = frame.server_time - at

    @property
    def earlier(self) -> int | None:
        """The event before which the history goes on; None where there is nothing to ask for."""
        if self.cursor is None or self._begun or len(self.events) >= MOST_EVENTS:
            return None
        return self.events[0].event if self.events else self.cursor + 1

    def put_earlier(self, before: int, found: Sequence[Event]) -> None:
        """What was told of the history before an event; ignored where the first that is held is another by now."""
        if before == self.earlier:
            self._begun = not found
            self.events.extendleft(EventRow.of(event) for event in reversed(found))
            self._most_events = max(self._most_events, len(self.events))
            self._changes.events = True

    def put(self, row: JobView | WorkerView) -> None:
        """A row from elsewhere, such as an action's answer; an older one than ours is ignored."""
        if isinstance(row, WorkerView):
            self._put_worker(row)
        else:
            self._put_job(row)

    def _put_job(self, job: JobView) -> None:
        _slim(job)
        known = self.jobs.get(job.job_id)
        if known is not None and job.version < known.job.version:
            return
        self._remember(known, job)
        same_attempt = known is not None and known.job.attempt == job.attempt and job.status.is_active
        still_waits = known is not None and known.job.status is job.status is JobStatus.PENDING
        self.jobs[job.job_id] = JobRow(
            job=job,
            progress=known.progress if known is not None and same_attempt else job.progress,
            points=known.points if known is not None and known.job.attempt == job.attempt else 0,
            waiting=known.waiting if known is not None and still_waits else None,
        )
        self._note_status(known, job)
        self._changes.jobs.add(job.job_id)
        self._changes.order = True

    def _put_worker(self, worker: WorkerView) -> None:
        known = self.workers.get(worker.worker)
        gauges = known.gauges if known is not None and worker.live else None
        self.workers[worker.worker] = worker.model_copy(update={"gauges": gauges})
        self._changes.workers = True

    def _remember(self, known: JobRow | None, job: JobView) -> None:
        if job.status.is_terminal:
            self.handled.pop(job.job_id, None)
        elif known is not None and known.job.status is JobStatus.FAILED:
            self.handled[job.job_id] = Handled(known.reason, job.updated_at)

    def still(self) -> Store:
        """As it is now, whatever is told to this one afterwards: rows are replaced, never changed."""
        held = copy(self)
        held.__dict__.update(
            {name: copy(value) for name, value in vars(self).items() if isinstance(value, dict | set | deque)}
        )
        held.gauges = {one: copy(samples) for one, samples in self.gauges.items()}
        return held

    def take_changes(self) -> Changes:
        taken, self._changes = self._changes, Changes()
        return taken

    def server_now(self, at: datetime) -> datetime:
        """The coordinator's time when this machine's clock says `at`; ages are counted by it."""
        return at + self._ahead

    def counts(self) -> Counter[JobStatus]:
        return self._counts

    def worker_named(self, name: str | None) -> WorkerView | None:
        """The worker of that name; of several (an older one of the same name), the one heard last."""
        named = [worker for worker in self.workers.values() if worker.name == name]
        return max(named, key=lambda worker: worker.last_heard_at, default=None)

    def running_on(self, worker: WorkerView) -> list[JobRow]:
        """The jobs whose attempt it holds, by the jobs' own rows: those are replaced at every step."""
        rows = (self.jobs[job_id] for job_id in self._active)
        return sorted((row for row in rows if row.job.worker == worker.name), key=lambda row: row.job.name)

    def _note_status(self, known: JobRow | None, job: JobView) -> None:
        (self._active.add if job.status.is_active else self._active.discard)(job.job_id)
        if known is not None:
            self._counts[known.job.status] -= 1
        self._counts[job.status] += 1

    def _replace_all(self, frame: SnapshotFrame) -> None:
        self.fleet, self.cursor = frame.fleet, frame.cursor
        self.events, self._most_events, self._begun = deque(), HELD_EVENTS, False
        ids = {job.job_id for job in frame.jobs}
        self._changes = Changes(jobs={*self.jobs, *ids}, order=True, workers=True, events=True)
        for job in frame.jobs:
            self._remember(self.jobs.get(job.job_id), job)
        self.handled = {job_id: one for job_id, one in self.handled.items() if job_id in ids}
        for job in frame.jobs:
            _slim(job)
        self.jobs = {job.job_id: JobRow(job, job.progress) for job in frame.jobs}
        self._active = {job.job_id for job in frame.jobs if job.status.is_active}
        self._counts = Counter(row.job.status for row in self.jobs.values())
        self.workers = {worker.worker: worker for worker in frame.workers}
        self.gauges = {one: held for one, held in self.gauges.items() if one in self.workers}
        for worker in frame.workers:
            if worker.gauges is not None:
                self._measure(worker.worker, worker.gauges)

    def _apply_event(self, event: Event) -> None:
        if self.cursor is not None and event.event <= self.cursor:
            return
        self.cursor = event.event
        self.events.append(EventRow.of(event))
        if len(self.events) > self._most_events:
            self.events.popleft()
            self._begun = False
        self._changes.events = True
        if event.job is not None:
            self._put_job(event.job)
        if event.worker is not None:
            self._put_worker(event.worker)

    def _apply_live(self, frame: LiveFrame) -> None:
        for job_id, progress in frame.progress.items():
            row = self.jobs.get(job_id)
            if row is not None and row.job.status.is_active and row.progress != progress:
                self._update(replace(row, progress=progress))
        for active in self._active if frame.metric_points else ():
            row = self.jobs[active]
            if row.job.attempt in frame.metric_points:
                self._update(replace(row, points=frame.metric_points[row.job.attempt]))
        for job_id, sentence in frame.waiting.items():
            row = self.jobs.get(job_id)
            if row is not None and row.job.status is JobStatus.PENDING and row.waiting != sentence:
                self._update(replace(row, waiting=sentence))
        self._apply_machines(frame)

    def _apply_machines(self, frame: LiveFrame) -> None:
        for worker_id, heard_at in frame.heard.items():
            worker = self.workers.get(worker_id)
            if worker is not None and heard_at > worker.last_heard_at:
                self.workers[worker_id] = worker.model_copy(update={"last_heard_at": heard_at})
                self._changes.workers = True

        for worker_id, gauges in frame.gauges.items():
            worker = self.workers.get(worker_id)
            if worker is not None and worker.gauges != gauges:
                self.workers[worker_id] = worker.model_copy(update={"gauges": gauges})
                self._measure(worker_id, gauges)
                self._changes.workers = True

    def _measure(self, worker_id: str, gauges: Gauges) -> None:
        self.gauges.setdefault(worker_id, deque(maxlen=HELD_GAUGES)).append(gauges)

    def _update(self, row: JobRow) -> None:
        self.jobs[row.job.job_id] = row
        self._changes.jobs.add(row.job.job_id)
