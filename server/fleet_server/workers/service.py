"""What workers ask for: to be known, to claim, and to report how their attempts went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_protocol.states import Verdict
from fleet_protocol.version import OLDEST_PROTOCOL, PROTOCOL, program_version
from fleet_protocol.workers import (
    AttemptVerdict,
    CheckpointRequest,
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    HelloAnswer,
    HelloRequest,
    LocalAttempt,
    ReleaseRequest,
    StartRequest,
    TransitionAnswer,
    WorkerView,
)
from fleet_server.artifacts import queries as artifact_queries
from fleet_server.blobs import queries as blob_queries
from fleet_server.clock import Clock
from fleet_server.database import Database, Transaction
from fleet_server.errors import (
    ArtifactMissing,
    BlobMissing,
    DuplicateIdentity,
    NameTaken,
    NoSuchWorker,
    ProtocolTooOld,
    StaleAttempt,
    UnknownAttempt,
    UnknownWorker,
)
from fleet_server.jobs import transitions
from fleet_server.jobs.model import Attempt, Job, code_of
from fleet_server.jobs.queries import find_attempt, job_and_attempt, job_and_attempt_async, open_attempts
from fleet_server.jobs.record import apply
from fleet_server.jobs.transitions import Change, Failure, Policy, Result
from fleet_server.logs import queries as log_queries
from fleet_server.matching.loop import MatchingLoop
from fleet_server.settings import Settings
from fleet_server.workers import queries
from fleet_server.workers.failures import by_worker, count
from fleet_server.workers.pace import paced
from fleet_server.workers.roster import Roster, Worker

log = structlog.get_logger()
SHORTEST_ID = 4
EndRequest = CompleteRequest | FailRequest | ReleaseRequest
Decide = Callable[[Transaction, Job, Attempt], Change | None]


@dataclass(slots=True)
class Workers:
    """The workers' side of the coordinator."""

    database: Database
    clock: Clock
    settings: Settings
    roster: Roster
    matching: MatchingLoop

    @property
    def policy(self) -> Policy:
        return Policy(
            max_lost=self.settings.max_lost,
            backoff=timedelta(seconds=self.settings.backoff),
            backoff_cap=timedelta(seconds=self.settings.backoff_cap),
        )

    async def hello(self, request: HelloRequest) -> HelloAnswer:
        """Register a worker, or take up again with it, and say what is to become of each of its attempts."""
        if not OLDEST_PROTOCOL <= request.protocol <= PROTOCOL:
            raise ProtocolTooOld(
                f"This agent speaks protocol {request.protocol}; the coordinator (fleet {program_version()}) takes "
                f"{OLDEST_PROTOCOL} to {PROTOCOL}. Install the same version on both."
            )
        async with self.roster.changing:
            worker = await self.database.writer.run(lambda tx: self._register(tx, request))
            self.roster.put(worker)
            self.roster.hear(worker.worker_id, self.clock.now())
            self.roster.measure(worker.worker_id, request.gauges)
        verdicts = [await self._greeted(entry, worker.worker_id) for entry in request.attempts]
        return HelloAnswer(
            version=program_version(),
            protocol=PROTOCOL,
            server_time=self.clock.now(),
            heartbeat_seconds=self.settings.heartbeat,
            attempts=tuple(verdicts),
        )

    def _register(self, tx: Transaction, request: HelloRequest) -> Worker:
        known = self.roster.workers.get(request.worker)
        self._refuse_impostor(tx, request, known)
        worker = Worker(
            worker_id=request.worker,
            name=request.name,
            incarnation=request.incarnation,
            boot_id=request.boot_id,
            version=request.version,
            protocol=request.protocol,
            capability=request.capability,
            live=True,
            draining=known.draining if known else False,
            first_heard_at=known.first_heard_at if known else tx.now,
            last_heard_at=tx.now,
        )
        if known and known == replace(worker, last_heard_at=known.last_heard_at):
            return worker  # said before and nothing new in it: no row, no event
        queries.save(tx, known, worker)
        queries.note(tx, "worker_hello", f"agent:{worker.name}", worker, self._row(worker))
        return worker

    def _refuse_impostor(self, tx: Transaction, request: HelloRequest, known: Worker | None) -> None:
        """A copied state folder, or a name that another live worker has."""
        fresh = tx.now - timedelta(seconds=self.settings.live_after)
        is_elsewhere = request.moved or (known and known.boot_id != request.boot_id)
        elsewhere = known and known.incarnation != request.incarnation and is_elsewhere
        if known and elsewhere and self.roster.last_heard(known) > fresh:
            raise DuplicateIdentity(
                f"A worker with this identity ({known.name}) is live elsewhere. If the state folder was "
                "copied, give this agent an empty one with --state."
            )
        twin = self.roster.by_name(request.name)
        if twin and twin.worker_id != request.worker and twin.live and self.roster.last_heard(twin) > fresh:
            raise NameTaken(
                f"A live worker is called {request.name!r}. Stop that agent, or give this one another --name."
            )

    def _row(self, worker: Worker) -> dict[str, object]:
        return worker.view(self.roster.policy(worker.name), ()).model_dump(mode="json")

    async def claim(self, request: ClaimRequest, gone: asyncio.Future[None]) -> ClaimAnswer | None:
        if request.worker not in self.roster.workers:
            raise UnknownWorker
        self.hear(request.worker)
        answer = await self.matching.claim(
            request.worker, request.claim_id, request.wait, gone, holds=request.holds
        )
        self.hear(request.worker)
        return answer

    def hear(self, worker: WorkerId) -> None:
        if worker in self.roster.workers:
            self.roster.hear(worker, self.clock.now())

    async def heartbeat(self, job_id: JobId, request: HeartbeatRequest) -> HeartbeatAnswer:
        """A verdict, never an error: it waits for no writer."""
        self.hear(request.worker)
        self.roster.measure(request.worker, request.gauges)
        verdict, why = await self._judge(request.attempt, request.worker)
        lease = self.roster.leases.of(request.attempt, request.worker)
        if verdict is Verdict.CONTINUE:
            self.roster.beats[request.attempt] = self.clock.now()
            if lease and lease.job_id == job_id and request.progress is not None:
                pace = self.roster.paces.get(job_id)
                self.roster.paces[job_id] = paced(pace, request.attempt, request.progress, self.clock.now())
        else:
            log.info("heartbeat_refused", job=job_id, attempt=request.attempt, verdict=verdict)
        seconds = lease and lease.seconds
        return HeartbeatAnswer(verdict=verdict, why=why, lease_seconds=seconds or self.settings.stale_after)

    async def _greeted(self, held: LocalAttempt, worker: WorkerId) -> AttemptVerdict:
        """What is to become of an attempt that a hello names; one that still runs has been heard by it."""
        verdict, why = await self._judge(held.attempt, worker)
        if verdict is Verdict.CONTINUE and held.running:
            self.roster.beats[held.attempt] = self.clock.now()
        return AttemptVerdict(attempt=held.attempt, verdict=verdict, why=why)

    async def _judge(self, attempt: AttemptId, worker: WorkerId) -> tuple[Verdict, str | None]:
        """From memory while the attempt goes on; why one has to stop, the database knows."""
        if self.roster.leases.of(attempt, worker):
            return Verdict.CONTINUE, None
        async with self.database.read() as connection:
            job, found = await job_and_attempt_async(connection, attempt)
        return transitions.verdict(job, found, worker)

    async def start(self, job_id: JobId, request: StartRequest) -> TransitionAnswer:
        return await self._change(
            job_id,
            request.worker,
            request.attempt,
            lambda tx, job, attempt: transitions.started(job, attempt, tx.now),
        )

    async def checkpoint(self, attempt: AttemptId, request: CheckpointRequest) -> TransitionAnswer:
        async with self.database.read() as connection:
            job, _ = await job_and_attempt_async(connection, attempt)
        if job is None:
            raise UnknownAttempt(f"There is no attempt {attempt}.")

        def decide(tx: Transaction, job: Job, attempt: Attempt) -> Change | None:
            change = transitions.checkpointed(job, attempt, tx.now, request.sha256)
            if not blob_queries.known(tx.connection, [request.sha256]):
                raise BlobMissing
            return change

        return await self._change(job.job_id, request.worker, attempt, decide)

    async def complete(self, job_id: JobId, request: CompleteRequest) -> TransitionAnswer:
        metrics = {name: metric.model_dump(mode="json") for name, metric in request.metrics.items()}

        def decide(tx: Transaction, job: Job, attempt: Attempt) -> Change | None:
            if not artifact_queries.uploaded(tx.connection, request.attempt, request.artifact):
                raise ArtifactMissing
            artifact_queries.save_evidence(tx.connection, request)
            trainer = request.provenance.get("trainer")
            code = code_of(job.specification, trainer if isinstance(trainer, str) else None)
            result = Result(request.artifact, metrics, code, request.log_bytes)
            return transitions.completed(job, attempt, tx.now, result)

        return await self._ended(job_id, request, decide)

    async def fail(self, job_id: JobId, request: FailRequest) -> TransitionAnswer:
        failure = Failure(request.kind, request.reason, request.exit_code, request.tail, request.log_bytes)
        return await self._ended(
            job_id,
            request,
            lambda tx, job, attempt: transitions.failed(job, attempt, tx.now, failure, self.policy),
        )

    async def release(self, job_id: JobId, request: ReleaseRequest) -> TransitionAnswer:
        return await self._ended(
            job_id,
            request,
            lambda tx, job, attempt: transitions.released(
                job, attempt, tx.now, request.reason, request.detail, request.log_bytes
            ),
        )

    async def _ended(self, job_id: JobId, request: EndRequest, decide: Decide) -> TransitionAnswer:
        """What an attempt says at its end; where that comes too late, it stays as evidence and changes nothing.

        An operator may accept a late artifact, and a log whose length is known is complete when it is there.
        """

        def keep(tx: Transaction) -> None:
            _, attempt = job_and_attempt(tx.connection, job_id, request.attempt)
            if attempt.worker_id == request.worker:
                log_queries.keep_length(tx, attempt.attempt, request.log_bytes)
                if isinstance(request, CompleteRequest):
                    artifact_queries.save_evidence(tx.connection, request)

        def decided(tx: Transaction, job: Job, attempt: Attempt) -> Change | None:
            change = decide(tx, job, attempt)
            if change is None:
                keep(tx)
            return change

        try:
            return await self._change(job_id, request.worker, request.attempt, decided)
        except StaleAttempt:
            await self.database.writer.run(keep)
            raise

    async def _change(
        self,
        job_id: JobId,
        worker: WorkerId,
        attempt: AttemptId,
        decide: Decide,
    ) -> TransitionAnswer:
        """Load, decide, write: one operation of the writer."""

        def operate(tx: Transaction) -> Job:
            job, found = job_and_attempt(tx.connection, job_id, attempt)
            if found.worker_id != worker:
                raise StaleAttempt(
                    f"Attempt {attempt} belongs to another worker.", current=transitions.truth(job)
                )
            change = decide(tx, job, found)
            if change is None:
                log.info("replayed", job=job_id, attempt=attempt, status=found.status)
                return job
            return apply(tx, change, f"agent:{found.worker}")

        self.hear(worker)
        job = await self.database.writer.run(operate)
        return TransitionAnswer(job_id=job.job_id, status=job.status, attempt=job.attempt, reason=job.reason)

    async def drain(self, ref: str, actor: str, reason: str, *, draining: bool = True) -> WorkerView:
        """Give a worker no new job, or jobs again; what it trains goes on. It stays so until it is told otherwise."""
        async with self.roster.changing:
            worker = replace(self.named(ref), draining=draining)
            if draining:
                self.roster.put(worker)  # first, so that nothing is handed out after the event
            await self.database.writer.run(lambda tx: self._note_drain(tx, worker, actor, reason))
            self.roster.put(worker)
        self.matching.wake()
        async with self.database.read() as connection:
            held = await queries.running_jobs(connection)
        return self.view(worker, held.get(worker.worker_id, []))

    def _note_drain(self, tx: Transaction, worker: Worker, actor: str, reason: str) -> None:
        if queries.save_draining(tx, worker):
            kind = "drained" if worker.draining else "resumed"
            queries.note(tx, kind, actor, worker, self._row(worker), reason or None)

    async def expel(self, worker: Worker, actor: str, reason: str) -> WorkerView:
        """It is not heard again: it counts as lost now, and so does what it trains."""

        def operate(tx: Transaction) -> Worker:
            for job, attempt in open_attempts(tx.connection):
                if attempt.worker_id == worker.worker_id:
                    apply(
                        tx,
                        transitions.lease_lost(job, attempt, tx.now, "its worker was revoked", self.policy),
                        actor,
                    )
            gone = self.roster.gone(worker)
            queries.save(tx, worker, gone)
            queries.note(tx, "worker_revoked", actor, gone, self._row(gone), reason or None)
            return gone

        async with self.roster.changing:
            gone = await self.database.writer.run(operate)
            self.roster.put(gone)
        self.matching.wake()
        return self.view(gone, [])

    async def holds(self, worker: WorkerId, attempt: AttemptId) -> bool:
        """Whether the attempt is, or was, this worker's; one that nobody knows is nobody else's."""
        if self.roster.leases.of(attempt, worker):
            return True
        async with self.database.read() as connection:
            found = await find_attempt(connection, attempt)
        return found is None or found.worker_id == worker

    def named(self, ref: str) -> Worker:
        """By name, else by id or a beginning of one that no other has."""
        if worker := self.roster.by_name(ref):
            return worker
        found = [
            worker for worker in self.roster.workers.values() if worker.worker_id.startswith(ref.lower())
        ]
        if len(found) == 1 and len(ref) >= SHORTEST_ID:
            return found[0]
        raise NoSuchWorker(f"No worker is called {ref!r}.")

    async def views(self) -> list[WorkerView]:
        """Every worker, live ones first, with what failed there."""
        async with self.database.read() as connection:
            held = await queries.running_jobs(connection)
            failed = by_worker(await queries.failed_attempts(connection))
        ordered = sorted(self.roster.workers.values(), key=lambda worker: (not worker.live, worker.name))
        return [
            self.view(worker, held.get(worker.worker_id, [])).model_copy(
                update={
                    "failures": tuple(count(f, worker.capability) for f in failed.get(worker.worker_id, []))
                }
            )
            for worker in ordered
        ]

    def view(self, worker: Worker, running: list[JobId]) -> WorkerView:
        heard, gauges = self.roster.heard.get(worker.worker_id), self.roster.gauges.get(worker.worker_id)
        return worker.view(self.roster.policy(worker.name), running, heard, gauges)
