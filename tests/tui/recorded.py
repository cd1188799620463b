"""A made-up fleet with a fixed clock, and a coordinator that plays it: no network, no waiting."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from fleet_client.client import LogChunk
from fleet_client.errors import Conflict, FleetError, NotFound
from fleet_protocol.capability import Capability, Gpu
from fleet_protocol.errors import Code, Problem
from fleet_protocol.events import Event, EventPage, EventsFrame, LiveFrame, SnapshotFrame
from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_protocol.jobs import (
    AttemptView,
    Explanation,
    JobDetail,
    JobSpec,
    JobView,
    Metric,
    Needs,
    Progress,
    Refusal,
    WorkerFit,
)
from fleet_protocol.logs import LogEnd, LogStart, LogTime
from fleet_protocol.metrics import JobMetrics
from fleet_protocol.plan import Plan
from fleet_protocol.states import AttemptStatus, JobStatus
from fleet_protocol.workers import WorkerView

NOW = datetime(2026, 5, 4, 14, 3, 2, tzinfo=UTC)
MODELS = ("gbt", "mlp", "cnn", "gru", "lstm", "transformer", "transformer_ssl")


def before(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def uuid(number: int) -> str:
    return str(UUID(int=number))


def job_id(name: str) -> JobId:
    return JobId(hashlib.sha256(name.encode()).hexdigest()[:16])


def job(name: str, status: str = "pending", **changes: object) -> JobView:
    """A job's row with what its status implies; `changes` replace fields."""
    state = JobStatus(status)
    row: dict[str, object] = {
        "job_id": job_id(name),
        "name": name,
        "model": next((model for model in MODELS if name.startswith(model)), "gbt"),
        "mode": "oracle" if "oracle" in name else "realistic",
        "status": state,
        "priority": 0,
        "attempts": 0 if state is JobStatus.PENDING else 1,
        "created_at": before(900),
        "queued_at": before(900),
        "updated_at": before(60),
    }
    if state.is_active or state in (JobStatus.COMPLETED, JobStatus.FAILED):
        row |= {"worker": "pi", "attempt": attempt_of(name), "started_at": before(192)}
    if state.is_terminal:
        row |= {"finished_at": before(60)}
    return JobView.model_validate(row | changes)


def attempt_of(name: str) -> AttemptId:
    return AttemptId(str(UUID(hashlib.sha256(name.encode()).hexdigest()[:32])))


def worker(name: str, *, number: int = 1, running: tuple[JobId, ...] = (), **changes: object) -> WorkerView:
    capability = Capability(
        hostname=name,
        os="Linux 6.8",
        cores=8,
        ram_gib=31.2,
        models=MODELS,
        max_jobs=2,
        python="3.11.9",
        torch="2.13.0",
        cpu="8 x 3.2 GHz",
    )
    row: dict[str, object] = {
        "worker": WorkerId(uuid(number)),
        "name": name,
        "live": True,
        "capability": capability,
        "version": "0.1.0",
        "running": running,
        "first_heard_at": before(7200),
        "last_heard_at": before(4),
    }
    return WorkerView.model_validate(row | changes)


def snapshot(
    jobs: list[JobView], workers: list[WorkerView] | None = None, cursor: int = 100
) -> SnapshotFrame:
    return SnapshotFrame(
        cursor=cursor, fleet="gesture-lab", server_time=NOW, jobs=tuple(jobs), workers=tuple(workers or ())
    )


def events(*rows: JobView | WorkerView, first: int) -> EventsFrame:
    """One event for each row, numbered from `first`."""
    made = [
        Event(
            event=number,
            at=NOW,
            kind="changed",
            actor="coordinator",
            job=row.model_copy(update={"version": number}) if isinstance(row, JobView) else None,
            worker=row if isinstance(row, WorkerView) else None,
        )
        for number, row in enumerate(rows, first)
    ]
    return EventsFrame(cursor=made[-1].event, events=tuple(made))


def refusal(code: Code, status: int, detail: str) -> Problem:
    return Problem(title=detail, status=status, detail=detail, code=code)


Move = SnapshotFrame | EventsFrame | LiveFrame | FleetError
Chunk = bytes | FleetError | None
"""What a log does next: bytes, a broken connection, or its end."""


@dataclass
class Recorded:
    """A coordinator whose words are put in by the test; it notes what it was asked."""

    jobs: dict[str, JobView] = field(default_factory=dict)
    details: dict[str, JobDetail] = field(default_factory=dict)
    explanations: dict[str, Explanation] = field(default_factory=dict)
    moves: asyncio.Queue[Move] = field(default_factory=asyncio.Queue)
    logs: dict[str, asyncio.Queue[Chunk]] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)
    """What a log holds from the beginning on, as history."""
    earlier: dict[str, bytes] = field(default_factory=dict)
    """Logs of earlier attempts, by the attempt."""
    curves: dict[str, JobMetrics] = field(default_factory=dict)
    happened: list[Event] = field(default_factory=list)
    """Before the snapshot."""
    plans: list[Plan] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    machines: dict[str, WorkerView] = field(default_factory=dict)
    """By id: what drain and resume answer with."""
    url: str = "http://127.0.0.1:8490"
    read_only: bool = False
    renewed: bool = False
    refusals: dict[str, FleetError] = field(default_factory=dict)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Recorded]:
        yield self

    def renew(self) -> bool:
        return self.renewed

    def tell(self, *moves: Move) -> None:
        for move in moves:
            self.moves.put_nowait(move)

    async def events(
        self, after: int | None = None
    ) -> AsyncIterator[SnapshotFrame | EventsFrame | LiveFrame]:
        self.asked.append(f"events after {after}")
        while True:
            move = await self.moves.get()
            if isinstance(move, FleetError):
                raise move
            yield move

    async def history(self, before: int, *, limit: int = 500) -> EventPage:
        self.asked.append(f"history before {before}")
        found = tuple(event for event in self.happened if event.event < before)[-limit:]
        return EventPage(events=found, next=found[-1].event if found else 0)

    async def follow_log(
        self,
        ref: str,
        *,
        offset: int | None = None,
        tail: int | None = None,
        attempt: str | None = None,
        times: bool = False,
    ) -> AsyncIterator[LogStart | LogTime | bytes | LogEnd]:
        self.asked.append(f"log of {ref} from {offset}")
        if attempt in self.earlier:
            of = AttemptId(str(attempt))
            yield LogStart(attempt=of, offset=0)
            yield self.earlier[of]
            yield LogEnd(attempt=of, length=len(self.earlier[of]), status=AttemptStatus.FAILED)
            return
        if ref not in self.logs and ref not in self.written:
            raise NotFound(refusal(Code.UNKNOWN_ATTEMPT, 404, "It has no attempt yet."))
        of = AttemptId(attempt or self.jobs[ref].attempt or uuid(7))
        whole = self.written.get(ref, b"")
        yield LogStart(attempt=of, offset=offset or 0)
        if times:
            yield LogTime(at=before(60))
        if whole[offset or 0 :]:
            yield whole[offset or 0 :]
        queue = self.logs.setdefault(ref, asyncio.Queue())
        while (chunk := await queue.get()) is not None:
            if isinstance(chunk, FleetError):
                raise chunk
            self.written[ref] = self.written.get(ref, b"") + chunk
            yield chunk
        yield LogEnd(attempt=of, length=len(self.written[ref]), status=AttemptStatus.COMPLETED)

    async def plan(self) -> Plan:
        return self.plans[0]

    async def reload(self) -> Plan:
        self.asked.append("reload")
        return self.plans.pop(0)

    async def read_log(self, ref: str, *, offset: int | None = None, attempt: str | None = None) -> LogChunk:
        self.asked.append(f"bytes of {ref} from {offset}")
        whole, start = self.written[ref], offset or 0
        return LogChunk(attempt or "", start, whole[start : start + 100], len(whole), open=False)

    async def job(self, ref: str) -> JobDetail:
        self.asked.append(f"job {ref}")
        return self.details.get(ref) or detail(self.jobs[ref])

    async def explain(self, ref: str) -> Explanation:
        self.asked.append(f"explain {ref}")
        made = Explanation(job_id=JobId(ref), status=self.jobs[ref].status, summary="Nothing bars it.")
        return self.explanations.get(ref, made)

    async def metrics(self, ref: str, *, points: int | None = None) -> JobMetrics:
        self.asked.append(f"metrics of {ref}")
        if ref not in self.curves:
            raise NotFound(refusal(Code.UNKNOWN_ATTEMPT, 404, "It has no attempt yet."))
        return self.curves[ref]

    async def cancel(self, ref: str, reason: str = "") -> JobView:
        return self._act("cancel", ref, "cancelled")

    async def requeue(self, ref: str, reason: str = "") -> JobView:
        return self._act("requeue", ref, "pending")

    async def drain(self, worker: str, reason: str = "") -> WorkerView:
        self.asked.append(f"drain {worker}")
        return self.machines[worker].model_copy(update={"draining": True})

    async def resume(self, worker: str, reason: str = "") -> WorkerView:
        self.asked.append(f"resume {worker}")
        return self.machines[worker].model_copy(update={"draining": False})

    def _act(self, verb: str, ref: str, status: str) -> JobView:
        self.asked.append(f"{verb} {ref}")
        if ref in self.refusals:
            raise self.refusals[ref]
        row = self.jobs[ref]
        self.jobs[ref] = row.model_copy(update={"status": JobStatus(status), "version": row.version + 1000})
        return self.jobs[ref]

    def hold(self, *rows: JobView) -> list[JobView]:
        self.jobs |= {row.job_id: row for row in rows}
        return list(rows)


def detail(
    row: JobView,
    *,
    history: tuple[AttemptView, ...] = (),
    hyper: dict[str, object] | None = None,
    needs: Needs | None = None,
) -> JobDetail:
    spec = JobSpec.model_validate(
        {
            "job_id": row.job_id,
            "name": row.name,
            "model": row.model,
            "mode": row.mode,
            "hyper": hyper or {},
            "split_recipe": "host",
            "train_hosts": ("p01", "p02"),
            "seed": 0,
            "n_resamples": 1000,
            "needs": needs or Needs(),
        }
    )
    tries = history or (() if row.attempt is None else (attempt(row),))
    return JobDetail(**row.model_dump(), spec=spec, max_attempts=3, errors=0, lost=0, history=tries)


def attempt(row: JobView, number: int = 1, **changes: object) -> AttemptView:
    status = {"completed": "completed", "failed": "failed", "claimed": "claimed"}.get(row.status, "running")
    made: dict[str, object] = {
        "attempt": row.attempt,
        "number": number,
        "worker": row.worker or "pi",
        "worker_id": WorkerId(uuid(1)),
        "status": AttemptStatus(status),
        "created_at": before(200),
    }
    return AttemptView.model_validate(made | changes)


def wrong_state(name: str) -> Conflict:
    return Conflict(refusal(Code.WRONG_STATE, 409, f"{name} is completed already."))


def macro_f1(value: float, low: float, high: float) -> dict[str, Metric]:
    return {
        "macro_f1": Metric(value=value, low=low, high=high),
        "accuracy": Metric(value=value + 0.011, low=low + 0.012, high=high + 0.009),
    }


LOG = b"".join(
    b"epoch %2d/40  loss %.4f  val macro_f1 %.3f  lr 0.00100  1.9 s\n"
    % (n, 1.9 / (1 + n / 3), 0.9 - 0.6 / (1 + n / 4))
    for n in range(1, 25)
)
TRACEBACK = b"""reading 140 recordings of 10 people
split host: train on p01 p02, test on 8 others
epoch  1/40  loss 2.3121
Traceback (most recent call last):
  File "train.py", line 88, in <module>
    loss = step(batch)
  File "train.py", line 41, in step
    raise ValueError(f"loss is {loss} at step {number} (lr={lr})")
ValueError: loss is nan at step 312 (lr=3.0)
"""


def gesture_lab() -> Recorded:
    """Thirteen jobs on three workers, in the middle of an afternoon: the picture in the README."""
    told = Recorded()
    gpu = job("transformer-large", "pending", reason="needs CUDA with 24 GiB: no worker that is live has it")
    failed = job(
        "gru-lr-too-high",
        "failed",
        worker="workstation",
        reason="ValueError: loss is nan at step 312 (lr=3.0)",
        finished_at=before(412),
        started_at=before(431),
    )
    running = [
        job("lstm-realistic", "running", worker="workstation", started_at=before(96)),
        job("transformer-realistic", "running", worker="workstation", started_at=before(41)),
        job("cnn-oracle", "running", worker="laptop", started_at=before(187)),
    ]
    done = [
        job("gbt-realistic", "completed", worker="pi", metrics=macro_f1(0.861, 0.806, 0.904)),
        job("gbt-oracle", "completed", worker="pi", metrics=macro_f1(0.874, 0.822, 0.915)),
        job("mlp-realistic", "completed", worker="laptop", metrics=macro_f1(0.838, 0.789, 0.882)),
        job("mlp-oracle", "completed", worker="pi", metrics=macro_f1(0.852, 0.803, 0.893)),
        job("cnn-realistic", "completed", worker="laptop", metrics=macro_f1(0.917, 0.881, 0.944)),
    ]
    waiting = [
        job(
            "gru-oracle",
            reason="waits for a free worker: workstation and laptop are busy",
            queued_at=before(880),
        ),
        job("transformer_ssl-realistic", reason="waits for a free worker", queued_at=before(870)),
    ]
    jobs = told.hold(*running, failed, gpu, *waiting, *done)
    rtx = Gpu(kind="cuda", name="RTX 3060", vram_gib=12, driver="560.35")
    busy = tuple(row.job_id for row in running)
    workstation = worker("workstation", number=1, running=busy[:2])
    capable = workstation.capability.model_copy(
        update={"gpus": (rtx,), "cores": 16, "ram_gib": 62.7, "cpu": "16 x 3.4 GHz"}
    )
    workers = [
        workstation.model_copy(update={"capability": capable}),
        worker("laptop", number=2, running=busy[2:]),
        worker("pi", number=3, live=False, last_heard_at=before(754)),
    ]
    told.tell(snapshot(jobs, workers))
    steps = {running[0].job_id: (24, 40), running[1].job_id: (5, 40), running[2].job_id: (37, 40)}
    progress = {of: Progress(step=at, total=total, phase="train") for of, (at, total) in steps.items()}
    told.tell(LiveFrame(server_time=NOW, progress=progress))
    told.written = {running[0].job_id: LOG, failed.job_id: TRACEBACK}
    told.logs[failed.job_id] = asyncio.Queue()
    told.logs[failed.job_id].put_nowait(None)
    for row in jobs:
        rate = 3.0 if row is failed else 0.001
        large = Needs(require_cuda=True, min_vram_gib=24) if row is gpu else Needs()
        told.details[row.job_id] = detail(row, hyper={"lr": rate, "hidden": 64, "epochs": 40}, needs=large)
    small = Refusal(
        code="vram", required="24 GiB", offered="12 GiB", message="needs CUDA with 24 GiB; its GPU has 12 GiB"
    )
    cuda = Refusal(
        code="cuda", required="24 GiB", offered="none", message="needs CUDA with 24 GiB; has no GPU"
    )
    told.explanations[gpu.job_id] = Explanation(
        job_id=gpu.job_id,
        status=JobStatus.PENDING,
        summary="It needs CUDA with 24 GiB: no worker that is live has it.",
        workers=(
            WorkerFit(worker="workstation", refusals=(small,)),
            WorkerFit(worker="laptop", refusals=(cuda,)),
            WorkerFit(worker="pi", refusals=(cuda,)),
        ),
    )
    return told
