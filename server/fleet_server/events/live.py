"""What is true now and not worth keeping: lengths, progress, gauges, who was heard when, why jobs wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from fleet_protocol.events import LiveFrame
from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_protocol.jobs import Progress
from fleet_protocol.workers import Gauges
from fleet_server.clock import Clock
from fleet_server.database import Database
from fleet_server.jobs.queries import pending
from fleet_server.jobs.service import waiting_reasons
from fleet_server.logs.store import LogStore
from fleet_server.matching.loop import MatchingLoop
from fleet_server.metrics.store import MetricStore
from fleet_server.workers.roster import Roster

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class LiveState:
    """One moment of what the live frames tell."""

    log_lengths: Mapping[AttemptId, int] = field(default_factory=dict)
    metric_points: Mapping[AttemptId, int] = field(default_factory=dict)
    progress: Mapping[JobId, Progress] = field(default_factory=dict)
    heard: Mapping[WorkerId, datetime] = field(default_factory=dict)
    gauges: Mapping[WorkerId, Gauges] = field(default_factory=dict)
    waiting: Mapping[JobId, str] = field(default_factory=dict)


def difference(before: LiveState, after: LiveState, now: datetime) -> LiveFrame:
    """What a reader who knows `before` has to be told; a job that waits for nothing any more gets an empty word."""
    ended = {job: "" for job in before.waiting if job not in after.waiting}
    return LiveFrame(
        server_time=now,
        log_lengths=_changed(before.log_lengths, after.log_lengths),
        metric_points=_changed(before.metric_points, after.metric_points),
        progress=_changed(before.progress, after.progress),
        gauges={str(worker): gauges for worker, gauges in _changed(before.gauges, after.gauges).items()},
        heard={str(worker): at for worker, at in _changed(before.heard, after.heard).items()},
        waiting={**_changed(before.waiting, after.waiting), **ended},
    )


def _changed(before: Mapping[K, V], after: Mapping[K, V]) -> dict[K, V]:
    return {key: value for key, value in after.items() if before.get(key) != value}


class Live:
    """Looks at most once a second, however many readers ask, and reads the queue only when it moved."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        roster: Roster,
        matching: MatchingLoop,
        logs: LogStore,
        metrics: MetricStore,
    ) -> None:
        self._database = database
        self._clock = clock
        self._roster = roster
        self._matching = matching
        self._logs = logs
        self._metrics = metrics
        self._seen_event = -1
        self._waiting: Mapping[JobId, str] = {}

    async def look(self, last_event: int) -> LiveState:
        if last_event != self._seen_event:
            self._seen_event = last_event
            self._waiting = await self._reasons()
        return LiveState(
            log_lengths=dict(self._logs.lengths),
            metric_points=dict(self._metrics.counts),
            progress={job: pace.progress for job, pace in self._roster.paces.items()},
            gauges=dict(self._roster.gauges),
            heard=dict(self._roster.heard),
            waiting=self._waiting,
        )

    async def _reasons(self) -> Mapping[JobId, str]:
        async with self._database.read() as connection:
            rows = await connection.run_sync(pending)
            kinds = await connection.run_sync(self._matching.demands)
            offers = await connection.run_sync(self._matching.offers)
        return waiting_reasons(rows, kinds, offers)

    def now(self) -> datetime:
        return self._clock.now()
