"""The sweep: leases that ran out, starts that never came, workers that fell silent.

Expiry counts from the later of the last heartbeat and the moment since when the coordinator has been listening
without a pause. A coordinator that was down, stopped or suspended has heard nobody; that is not the workers'
fault, and nothing is requeued for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from fleet_protocol.states import AttemptStatus
from fleet_server.clock import Clock
from fleet_server.database import Database, Transaction
from fleet_server.jobs.model import Attempt, Job
from fleet_server.jobs.queries import open_attempts
from fleet_server.jobs.record import apply
from fleet_server.jobs.transitions import Policy, expiry, lease_lost
from fleet_server.settings import Settings
from fleet_server.workers import queries
from fleet_server.workers.roster import Roster, Worker

log = structlog.get_logger()


@dataclass(slots=True)
class Sweep:
    """Looks every `settings.sweep` seconds."""

    database: Database
    clock: Clock
    settings: Settings
    roster: Roster
    policy: Policy
    listening_since: datetime = field(init=False)
    _looked: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.listening_since = self._looked = self.clock.now()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sweep)
            try:
                await self.once()
            except Exception:  # the loop outlives one bad look, or no stale claim is ever taken back
                log.exception("sweep_failed")

    async def once(self) -> None:
        """One look; also notices its own pause."""
        now = self.clock.now()
        if now - self._looked > timedelta(seconds=self.settings.heartbeat + self.settings.sweep):
            self.listening_since = now
            log.warning("coordinator_was_paused", seconds=(now - self._looked).total_seconds())
        self._looked = now
        async with self.roster.changing:
            changed, held = await self.database.writer.run(self._look)
            for worker in changed:
                self.roster.put(worker)
        # here, where heartbeats come in: from the writer's thread one that comes meanwhile would be lost
        self.roster.keep_only({attempt.attempt for _, attempt in held}, {job.job_id for job, _ in held})

    def _look(self, tx: Transaction) -> tuple[list[Worker], list[tuple[Job, Attempt]]]:
        held = open_attempts(tx.connection)
        for job, attempt, why in self.overdue(held, tx.now):
            apply(tx, lease_lost(job, attempt, tx.now, why, self.policy), "coordinator")
            log.warning("lease_lost", job=job.job_id, attempt=attempt.attempt, worker=attempt.worker, why=why)
        return self._liveness(tx), held

    def overdue(self, held: Sequence[tuple[Job, Attempt]], now: datetime) -> list[tuple[Job, Attempt, str]]:
        """Attempts whose time is up, and why."""
        late: list[tuple[Job, Attempt, str]] = []
        for job, attempt in held:
            heard = self.roster.beats.get(attempt.attempt)
            started = attempt.status is AttemptStatus.RUNNING
            limit = self._lease(job) if started else min(self._lease(job), self._start_deadline)
            if expiry(attempt, heard, self.listening_since, limit) < now:
                words = "no heartbeat" if started else "it was claimed, but no start was reported"
                late.append((job, attempt, f"{words} for {limit.total_seconds():g} s"))
        return late

    def _lease(self, job: Job) -> timedelta:
        return timedelta(seconds=job.spec["lease"] or self.settings.stale_after)

    @property
    def _start_deadline(self) -> timedelta:
        return timedelta(seconds=self.settings.start_deadline)

    def _liveness(self, tx: Transaction) -> list[Worker]:
        """Workers that fell silent, and silent ones that were heard again."""
        live_after = timedelta(seconds=self.settings.live_after)
        silence = f"silent for {live_after.total_seconds():g} s"
        silent = self.roster.silent(tx.now, self.listening_since, live_after)
        changed = [self._note(tx, self.roster.gone(worker), "worker_lost", silence) for worker in silent]
        for worker in self.roster.workers.values():
            heard = self.roster.heard.get(worker.worker_id)
            if not worker.live and heard is not None and heard > tx.now - live_after:
                back = replace(worker, live=True, last_heard_at=heard)
                changed.append(self._note(tx, back, "worker_back", None))
        return changed

    def _note(self, tx: Transaction, worker: Worker, kind: str, detail: str | None) -> Worker:
        queries.save(tx, worker, worker)
        row = worker.view(self.roster.policy(worker.name), ()).model_dump(mode="json")
        queries.note(tx, kind, "coordinator", worker, row, detail)
        return worker
