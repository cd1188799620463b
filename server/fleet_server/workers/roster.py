"""Who the workers are, kept in memory beside their rows: one active coordinator is the only one to change them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping

from fleet_protocol.capability import Capability
from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_protocol.manifest import HostPolicy
from fleet_protocol.workers import Gauges, WorkerView
from fleet_server.workers.leases import Leases
from fleet_server.workers.pace import Pace


@dataclass(frozen=True, slots=True)
class Worker:
    """One row of `workers`."""

    worker_id: WorkerId
    name: str
    incarnation: str
    boot_id: str | None
    version: str
    protocol: int
    capability: Capability
    live: bool
    draining: bool
    first_heard_at: datetime
    last_heard_at: datetime

    def view(
        self,
        policy: HostPolicy,
        running: Iterable[JobId],
        heard: datetime | None = None,
        gauges: Gauges | None = None,
    ) -> WorkerView:
        return WorkerView.model_construct(
            worker=self.worker_id,
            name=self.name,
            live=self.live,
            draining=self.draining,
            priority=policy.priority,
            description=policy.description,
            capability=self.capability,
            version=self.version,
            running=tuple(running),
            gauges=gauges if self.live else None,
            first_heard_at=self.first_heard_at,
            last_heard_at=max(self.last_heard_at, heard or self.last_heard_at),
        )


def worker_from(row: RowMapping) -> Worker:
    return Worker(**{**row, "capability": Capability.model_validate(row["capability"])})


def worker_values(worker: Worker) -> dict[str, Any]:
    values = {name: getattr(worker, name) for name in Worker.__slots__}
    return {**values, "capability": worker.capability.model_dump(mode="json")}


@dataclass(slots=True)
class Roster:
    """Workers by id, the hosts' policies, and when each worker and attempt was last heard.

    Heartbeats only touch this memory; the flush loop writes them down every few seconds. Losing them in a crash
    harms nobody, since leases count from when the coordinator began listening.
    """

    workers: Mapping[WorkerId, Worker] = field(default_factory=dict)
    policies: Mapping[str, HostPolicy] = field(default_factory=dict)
    heard: dict[WorkerId, datetime] = field(default_factory=dict)
    beats: dict[AttemptId, datetime] = field(default_factory=dict)
    paces: dict[JobId, Pace] = field(default_factory=dict)
    gauges: dict[WorkerId, Gauges] = field(default_factory=dict)
    leases: Leases = field(default_factory=Leases)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes workers' rows: one after the other, each on what the one before it left."""

    def policy(self, name: str) -> HostPolicy:
        return self.policies.get(name, UNLISTED)

    def by_name(self, name: str) -> Worker | None:
        """The live worker of that name, else the one heard last."""
        named = [worker for worker in self.workers.values() if worker.name == name]
        return max(named, key=lambda worker: (worker.live, self.last_heard(worker)), default=None)

    def last_heard(self, worker: Worker) -> datetime:
        return max(self.heard.get(worker.worker_id, worker.last_heard_at), worker.last_heard_at)

    def hear(self, worker: WorkerId, now: datetime) -> None:
        self.heard[worker] = now

    def measure(self, worker: WorkerId, gauges: Gauges | None) -> None:
        if gauges is not None and worker in self.workers:
            self.gauges[worker] = gauges

    def keep_only(self, attempts: Set[AttemptId], jobs: Set[JobId]) -> None:
        """Forget what was heard of attempts that are over."""
        self.beats = {attempt: at for attempt, at in self.beats.items() if attempt in attempts}
        self.paces = {job: pace for job, pace in self.paces.items() if job in jobs}

    def silent(self, now: datetime, listening_since: datetime, live_after: timedelta) -> list[Worker]:
        """Live workers that were not heard for `live_after`, while somebody was listening."""
        limit = now - live_after
        return [
            worker
            for worker in self.workers.values()
            if worker.live and max(self.last_heard(worker), listening_since) < limit
        ]

    def put(self, worker: Worker) -> None:
        self.workers = {**self.workers, worker.worker_id: worker}  # a new one: the writer's thread iterates

    def gone(self, worker: Worker) -> Worker:
        return replace(worker, live=False, last_heard_at=self.last_heard(worker))


UNLISTED = HostPolicy()
"""A worker without an entry in the manifest may run everything."""
