"""A small coordinator on a real socket: answers from wire models put into it, and keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from fleet_protocol.capability import Capability
from fleet_protocol.errors import Problem
from fleet_protocol.events import Event, EventsFrame, SnapshotFrame
from fleet_protocol.health import Ready
from fleet_protocol.ids import AttemptId, JobId, WorkerId
from fleet_protocol.jobs import (
    ArtifactPage,
    AttemptView,
    Explanation,
    JobDetail,
    JobPage,
    JobSpec,
    JobView,
    Metric,
    Refusal,
    WorkerFit,
)
from fleet_protocol.logs import HOLES_HEADER, LogEnd, LogHole, LogStart
from fleet_protocol.plan import Category, Plan, PlanEntry
from fleet_protocol.states import AttemptStatus, JobStatus
from fleet_protocol.wire import Answer
from fleet_protocol.workers import WorkerPage, WorkerView

TOKEN = "the-token"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ATTEMPT = AttemptId(str(uuid4()))
WORKER = WorkerId(str(uuid4()))


def a_job(number: int = 1, status: JobStatus = JobStatus.PENDING, **more: object) -> JobView:
    known = {
        "job_id": JobId(f"{number:016x}"),
        "name": f"job {number}",
        "model": "gbt",
        "mode": "realistic",
        "status": status,
        "priority": 0,
        "attempts": 0,
        "created_at": NOW,
        "queued_at": NOW,
        "updated_at": NOW,
    }
    return JobView.model_validate(known | more)


def completed(number: int = 1, **more: object) -> JobView:
    metrics = {"accuracy": Metric(value=0.861, low=0.806, high=0.904, unit="host")}
    return a_job(number, JobStatus.COMPLETED, metrics=metrics, worker="pi-garage", artifact="a" * 64, **more)


def detail_of(job: JobView) -> JobDetail:
    spec = JobSpec(
        job_id=job.job_id,
        name=job.name,
        model=job.model,
        mode="realistic",
        hyper={"trees": 30},
        split_recipe="host",
        train_hosts=("subject-01",),
        seed=0,
        n_resamples=1000,
    )
    attempt = AttemptView(
        attempt=ATTEMPT,
        number=1,
        worker="pi-garage",
        worker_id=WORKER,
        status=AttemptStatus.FAILED,
        reason="no such host",
        exit_code=3,
        created_at=NOW,
        started_at=NOW,
        ended_at=NOW,
        tail="Traceback\nboom\x1b[2J",
    )
    history = (attempt,) if job.status is JobStatus.FAILED else ()
    path = f"models/gbt_realistic/{job.artifact}/bundle.tar.zst" if job.artifact else None
    return JobDetail(
        **job.model_dump(), spec=spec, max_attempts=1, errors=1, lost=0, history=history, artifact_path=path
    )


def a_worker(name: str = "pi-garage", *, live: bool = True) -> WorkerView:
    return WorkerView(
        worker=WORKER,
        name=name,
        live=live,
        capability=Capability(hostname=name, os="Linux", cores=2, ram_gib=8, models=("gbt",)),
        version="0.1.0",
        first_heard_at=NOW,
        last_heard_at=NOW,
    )


def an_event(number: int, kind: str, job: JobView) -> Event:
    return Event(event=number, at=NOW, kind=kind, actor="agent:pi-garage", job=job)


def problem(status: int, code: str, detail: str, advice: str | None = None) -> Response:
    body = Problem(title=code, status=status, detail=detail, code=code, next=advice)
    return Response(body.model_dump_json(), status, media_type="application/problem+json")


@dataclass
class Coordinator:
    """What it answers with, and what it was asked: `METHOD path?query body` each."""

    url: str = ""
    jobs: list[JobView] = field(default_factory=list)
    page_size: int = 100
    holes: list[tuple[int, int]] = field(default_factory=list)
    log: bytes = b""
    sever_log_after: int | None = None
    """Bytes after which the first log stream breaks."""
    frames: list[Answer] = field(default_factory=list)
    busy: int = 0
    """How many requests are turned away with 503 before one is answered."""
    page: Response | None = None
    """Answers everything, where it is set."""
    asked: list[str] = field(default_factory=list)

    def take(self) -> list[str]:
        taken, self.asked = self.asked, []
        return taken

    def named(self, ref: str) -> JobView | None:
        return next((job for job in self.jobs if job.job_id.startswith(ref) or job.name == ref), None)


def said(model: Answer) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


class Routes:
    def __init__(self, coordinator: Coordinator) -> None:
        self.state = coordinator

    async def http(self, request: Request) -> Response:
        state, path = self.state, request.url.path
        query = f"?{request.url.query}" if request.url.query else ""
        body = (await request.body()).decode()
        state.asked.append(f"{request.method} {path}{query} {body}".strip())
        if state.page:
            return state.page
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "not_authenticated", "This token is not known here.")
        if state.busy:
            state.busy -= 1
            answer = problem(503, "busy", "The coordinator is busy.")
            answer.headers["Retry-After"] = "0"
            return answer
        if path.startswith("/v1/job/"):
            return self.job(request, *path.removeprefix("/v1/job/").partition("/")[::2])
        return self.listing(request, path)

    def listing(self, request: Request, path: str) -> Response:
        state = self.state
        if path == "/v1/jobs":
            begin = int(request.query_params.get("cursor", 0))
            wanted = request.query_params.getlist("status")
            text = request.query_params.get("q", "")
            chosen = [job for job in state.jobs if (not wanted or job.status in wanted) and text in job.name]
            end = begin + state.page_size
            return said(JobPage(jobs=tuple(chosen[begin:end]), next=str(end) if end < len(chosen) else None))
        if path == "/v1/workers":
            return said(WorkerPage(workers=(a_worker(),)))
        if path == "/v1/models":
            return said(ArtifactPage(models=()))
        if path == "/v1/ready":
            return Response(Ready(ready=False, version="1", fleet="f", parts={}).model_dump_json(), 503)
        if path == "/v1/manifest":
            return JSONResponse(
                {"fleet": "f", "file": "m.toml", "toml": "", "digest": "d", "applied_at": NOW.isoformat()}
            )
        return said(a_plan(changed="reload" in path))

    def job(self, request: Request, ref: str, verb: str) -> Response:
        job = self.state.named(ref)
        if job is None:
            return problem(404, "unknown_job", f"There is no job {ref!r}.", "fleet list")
        if verb == "":
            return said(detail_of(job))
        if verb == "explain":
            return said(an_explanation(job))
        if verb == "log":
            offset = int(request.query_params.get("offset", 0))
            data = self.state.log[offset : offset + 8]
            headers = {"Fleet-Attempt": ATTEMPT, "Fleet-Log-Offset": str(offset), "Fleet-Log-Open": "?0"}
            if holes := [
                hole for hole in self.state.holes if hole[1] > offset and hole[0] < offset + len(data)
            ]:
                headers[HOLES_HEADER] = ",".join(f"{start}-{end}" for start, end in holes)
            return Response(data, headers=headers | {"Fleet-Log-Length": str(len(self.state.log))})
        if job.status is JobStatus.COMPLETED:
            return problem(409, "wrong_state", f"{job.name} is completed, so there is nothing to {verb}.")
        status = JobStatus.CANCELLED if verb == "cancel" else JobStatus.PENDING
        return said(job.model_copy(update={"status": status}))

    async def allowed(self, socket: WebSocket) -> bool:
        self.state.asked.append(f"WS {socket.url.path}?{socket.url.query}")
        if socket.headers.get("authorization") == f"Bearer {TOKEN}":
            await socket.accept()
            return True
        await socket.send_denial_response(problem(401, "not_authenticated", "This token is not known here."))
        return False

    async def events(self, socket: WebSocket) -> None:
        if await self.allowed(socket):
            for frame in self.state.frames:
                await socket.send_text(frame.model_dump_json())
            await socket.close()

    async def log(self, socket: WebSocket) -> None:
        if not await self.allowed(socket):
            return
        log, offset = self.state.log, int(socket.query_params.get("offset", 0))
        await socket.send_text(LogStart(attempt=ATTEMPT, offset=offset).model_dump_json())
        end, self.state.sever_log_after = self.state.sever_log_after or len(log), None
        at = offset
        while at < end:
            start, behind = next((hole for hole in self.state.holes if hole[1] > at), (end, end))
            if start <= at:
                await socket.send_text(LogHole(offset=at, length=behind - at).model_dump_json())
                at = behind
            else:
                await socket.send_bytes(log[at : min(at + 4, start, end)])
                at = min(at + 4, start, end)
        if end == len(log):
            ending = LogEnd(attempt=ATTEMPT, length=len(log), status=AttemptStatus.COMPLETED)
            await socket.send_text(ending.model_dump_json())
        await socket.close(1000 if end == len(log) else 1011)


def a_plan(*, changed: bool) -> Plan:
    entry = PlanEntry(
        job_id=JobId("1" * 16),
        name="big",
        model="cnn",
        mode="oracle",
        category=Category.NEW,
        unsatisfiable="needs a CUDA GPU, has none",
    )
    return Plan(fleet="f", file="m.toml", changed=changed, entries=(entry,))


def an_explanation(job: JobView) -> Explanation:
    refusal = Refusal(
        code="no_cuda", required="a CUDA GPU", offered="none", message="needs a CUDA GPU, has none"
    )
    fit = WorkerFit(worker="pi-garage", refusals=(refusal,))
    return Explanation(job_id=job.job_id, status=job.status, summary="no worker can take it", workers=(fit,))


def a_snapshot(*jobs: JobView, cursor: int = 1) -> SnapshotFrame:
    return SnapshotFrame(cursor=cursor, fleet="f", server_time=NOW, jobs=jobs, workers=())


def an_events_frame(*events: Event) -> EventsFrame:
    return EventsFrame(cursor=events[-1].event, events=events)


@contextmanager
def running(coordinator: Coordinator) -> Iterator[Coordinator]:
    """Serves it on a free port of this machine from a thread."""
    routes = Routes(coordinator)
    app = Starlette(
        routes=[
            WebSocketRoute("/v1/events", routes.events),
            WebSocketRoute("/v1/job/{ref}/log", routes.log),
            Route("/{path:path}", routes.http, methods=["GET", "POST"]),
        ]
    )
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: object = None) -> None:
            await super().startup()
            coordinator.url = f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"
            started.set()

    server = Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    started.wait(30)
    try:
        yield coordinator
    finally:
        server.should_exit = True
        thread.join()
