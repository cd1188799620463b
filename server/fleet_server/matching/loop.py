"""The one matching loop: answers every waiting claim, set-wise, in one transaction.

A claim joins the list of waiting requests and wakes the loop. The loop reads the heads of the queue in the
writer's transaction, decides with `assign`, writes all assignments, and answers. It wakes again when a job
becomes pending, when a worker changes, or when a second try falls due; otherwise it sleeps.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from fleet_protocol.ids import Sha256, WorkerId, new_attempt_id
from fleet_protocol.states import AttemptStatus
from fleet_protocol.workers import ClaimAnswer
from fleet_server.blobs.queries import known
from fleet_server.clock import Clock
from fleet_server.database import EventRow, Transaction, Writer
from fleet_server.jobs.model import Attempt, Job
from fleet_server.jobs.queries import job_row
from fleet_server.jobs.record import apply_all
from fleet_server.jobs.transitions import Change, claimed
from fleet_server.matching import queries
from fleet_server.matching.assign import Candidate, assign, heads_wanted
from fleet_server.matching.fits import Demand, Offer, demand_of
from fleet_server.workers.roster import Roster

log = structlog.get_logger()
QUIET_KINDS = frozenset({"claimed", "started", "checkpointed", "cancel_requested", "removed"})
"""Events after which no waiting claim can be answered that could not be answered before."""
SPARE_HEADS = 8  # a head that is held back for another worker must not hide the jobs behind it


@dataclass(eq=False, slots=True)
class Waiting:
    """A claim that waits for an answer; None is the answer that there is nothing."""

    worker: WorkerId
    claim_id: str
    until: float
    """The event loop's time at which to stop waiting."""
    answer: asyncio.Future[ClaimAnswer | None]
    holds: frozenset[Sha256] = frozenset()
    considered: bool = False


@dataclass(slots=True)
class Outcome:
    """What one pass of the loop decided."""

    answers: dict[str, ClaimAnswer | None] = field(default_factory=dict)
    """By claim id; a claim that is missing goes on waiting."""
    next_ready: datetime | None = None


class MatchingLoop:
    """Owns the waiting claims of all workers."""

    def __init__(self, writer: Writer, clock: Clock, roster: Roster, lease: timedelta) -> None:
        self._writer = writer
        self._clock = clock
        self._roster = roster
        self._lease = lease
        self._kinds: dict[str, Demand] = {}
        self._waiting: list[Waiting] = []
        self._wake = asyncio.Event()
        self._closing = False
        writer.on_commit(self._on_commit)

    async def claim(
        self,
        worker: WorkerId,
        claim_id: str,
        wait: float,
        gone: asyncio.Future[None] | None = None,
        *,
        holds: Iterable[Sha256] = (),
    ) -> ClaimAnswer | None:
        """The answer to one claim, or None when nothing fits within `wait` seconds or before the asker is `gone`."""
        loop = asyncio.get_running_loop()
        request = Waiting(worker, claim_id, loop.time() + wait, loop.create_future(), frozenset(holds))
        self._forget_earlier(claim_id)
        self._waiting.append(request)
        self._wake.set()
        try:
            watched: list[asyncio.Future[Any]] = [request.answer, gone] if gone else [request.answer]
            await asyncio.wait(
                watched, timeout=0 if self._closing else wait, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if request in self._waiting and (request.considered or self._closing):
                self._waiting.remove(request)
                if not request.answer.done():
                    request.answer.set_result(None)
        # What is not answered by now is in a pass, or waits for its first; a pass answers whoever's time is up.
        return await request.answer

    def _forget_earlier(self, claim_id: str) -> None:
        """The same question again: whoever asked it before has gone, and must not be handed a job."""
        for earlier in [request for request in self._waiting if request.claim_id == claim_id]:
            self._waiting.remove(earlier)
            if not earlier.answer.done():
                earlier.answer.set_result(None)

    def wake(self) -> None:
        """Look again: something changed that is not in an event."""
        self._wake.set()

    def now(self) -> datetime:
        return self._clock.now()

    def close(self) -> None:
        """Answer everybody who waits with nothing; the coordinator is going away."""
        self._closing = True
        for request in self._waiting:
            if not request.answer.done():
                request.answer.set_result(None)

    async def run(self) -> None:
        """Until cancelled: wait for a reason, make one pass over everybody who waits."""
        due: datetime | None = None
        while True:
            await self._sleep_until(due)
            self._wake.clear()
            batch = [request for request in self._waiting if not request.answer.done()]
            if not batch:
                due = None
                continue
            self._waiting = [request for request in self._waiting if request not in batch]
            outcome = await self._pass(batch)
            due = outcome.next_ready
            served = {request.worker for request in batch if outcome.answers.get(request.claim_id)}
            for request in batch:
                self._settle(request, outcome, again=request.worker in served)
            if any(request.worker in served for request in self._waiting):
                self._wake.set()  # one claim of a worker is answered a pass; this one has another

    async def _pass(self, batch: Sequence[Waiting]) -> Outcome:
        try:
            return await self._writer.run(lambda tx: self._match(tx, batch))
        except Exception as error:  # noqa: BLE001 - the outermost frame of the loop: the claims get the error, the loop lives
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return Outcome()

    async def _sleep_until(self, due: datetime | None) -> None:
        if due is None:
            await self._wake.wait()
            return
        seconds = max(0.0, (due - self._clock.now()).total_seconds()) + 0.01
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    def _settle(self, request: Waiting, outcome: Outcome, *, again: bool) -> None:
        """Answer, or wait on; `again`: this pass served another claim of its worker, so the next one may serve it."""
        request.considered = True
        if request.answer.done():
            return
        late = self._closing or (not again and asyncio.get_running_loop().time() >= request.until)
        if request.claim_id in outcome.answers or late:
            request.answer.set_result(outcome.answers.get(request.claim_id))
        else:
            self._waiting.append(request)

    def _on_commit(self, events: Sequence[EventRow]) -> None:
        if self._waiting and any(event.kind not in QUIET_KINDS for event in events):
            self._wake.set()

    def _match(self, tx: Transaction, batch: Sequence[Waiting]) -> Outcome:
        outcome = Outcome()
        self._replay(tx, batch, outcome)
        everybody = {offer.worker_id: offer for offer in self.offers(tx.connection)}
        asking = {r.worker: r for r in batch if r.claim_id not in outcome.answers and r.worker in everybody}
        waiting = [  # whoever asks is there
            replace(everybody[worker], live=True, holds=request.holds) for worker, request in asking.items()
        ]
        if not waiting:
            return outcome
        wanted = heads_wanted(self.demands(tx.connection), waiting)
        heads = {
            job.job_id: job
            for digest, count in wanted.items()
            for job in queries.heads(tx.connection, digest, tx.now, count + SPARE_HEADS)
        }
        candidates = [self.candidate(tx.connection, job) for job in heads.values()]
        pairs = assign(candidates, waiting, list(everybody.values()), tx.now)
        self._hand_out(tx, [(heads[job], asking[worker]) for job, worker in pairs], outcome)
        kept = (job.kept_until for job in candidates if job.demand.needs.prefer_cuda)
        due = [queries.next_ready(tx.connection, tx.now), *(until for until in kept if until > tx.now)]
        outcome.next_ready = min(filter(None, due), default=None)
        return outcome

    def _replay(self, tx: Transaction, batch: Sequence[Waiting], outcome: Outcome) -> None:
        """A claim that was answered before gets the same answer while it holds, and nothing once it is over."""
        before = queries.attempts_by_claim(tx.connection, [request.claim_id for request in batch])
        for request in batch:
            attempt = before.get(request.claim_id)
            if attempt is not None:
                job = job_row(tx.connection, attempt.job_id)
                holds = attempt.status.is_open and job.attempt == attempt.attempt
                theirs = attempt.worker_id == request.worker
                answer = self._answer(tx.connection, job, attempt) if holds and theirs else None
                outcome.answers[request.claim_id] = answer
                log.info("claim_replayed", attempt=attempt.attempt, holds=answer is not None)

    def _hand_out(self, tx: Transaction, pairs: Sequence[tuple[Job, Waiting]], outcome: Outcome) -> None:
        if not pairs:
            return
        changes: list[Change] = []
        new: list[Attempt] = []
        for job, request in pairs:
            attempt = Attempt(
                attempt=new_attempt_id(),
                job_id=job.job_id,
                number=job.attempts + 1,
                worker_id=request.worker,
                worker=self._roster.workers[request.worker].name,
                claim_id=request.claim_id,
                status=AttemptStatus.CLAIMED,
                created_at=tx.now,
            )
            new.append(attempt)
            changes.append(claimed(job, attempt, tx.now))
            outcome.answers[request.claim_id] = self._answer(tx.connection, job, attempt)
        apply_all(tx, changes, [f"agent:{attempt.worker}" for attempt in new])

    def _answer(self, connection: Connection, job: Job, attempt: Attempt) -> ClaimAnswer:
        is_kept = job.checkpoint is not None and bool(known(connection, [job.checkpoint]))
        return ClaimAnswer(
            job=job.specification,
            attempt=attempt.attempt,
            number=attempt.number,
            lease_seconds=float(job.spec["lease"] or self._lease.total_seconds()),
            checkpoint=job.checkpoint if is_kept else None,
        )

    def candidate(self, connection: Connection, job: Job) -> Candidate:
        patience = timedelta(seconds=float(job.spec["prefer_wait"]))
        demand, dataset = self._demand(connection, job.needs_digest), job.spec["dataset"]
        return Candidate(
            job_id=job.job_id,
            demand=demand,
            priority=job.priority,
            queued_at=job.queued_at,
            prefer_wait=patience,
            avoid=job.avoid_worker_id,
            dataset=dataset and dataset["sha256"],
        )

    def demands(self, connection: Connection) -> dict[str, Demand]:
        """What pending jobs ask for, by digest."""
        return {digest: self._demand(connection, digest) for digest in queries.pending_kinds(connection)}

    def _demand(self, connection: Connection, digest: str) -> Demand:
        """What the jobs of one kind ask for; read from the database once, ever."""
        if digest not in self._kinds:
            self._kinds[digest] = demand_of(queries.any_of_kind(connection, digest).specification)
        return self._kinds[digest]

    def offers(self, connection: Connection) -> list[Offer]:
        """Everybody as the matching sees them, with what they hold."""
        held: dict[WorkerId, list[tuple[Demand, int]]] = defaultdict(list)
        for worker, digest, count in queries.held_kinds(connection):
            held[worker].append((self._demand(connection, digest), count))
        return [
            Offer(
                worker_id=worker.worker_id,
                name=worker.name,
                capability=worker.capability,
                policy=self._roster.policy(worker.name),
                live=worker.live,
                draining=worker.draining,
                held=tuple(held[worker.worker_id]),
            )
            for worker in list(self._roster.workers.values())
        ]
