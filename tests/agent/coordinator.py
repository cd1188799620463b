"""A small real coordinator: real sockets, the interface's rules, no database. What arrived is written down.

It exists for what a mock cannot show: lost connections, restarts on the same port, bytes on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fleet_agent.transfers import SMALL_BYTES
from fleet_protocol.errors import Code, Problem
from fleet_protocol.ids import AttemptId, JobId, Sha256, new_attempt_id
from fleet_protocol.jobs import JobSpec, Needs
from fleet_protocol.logs import (
    HOLE_HEADER,
    Ack,
    AppendAnswer,
    Ask,
    Hole,
    Nack,
    Resume,
    Stop,
    StreamHello,
    from_agent,
    parse_data_frame,
)
from fleet_protocol.metrics import MetricsAnswer, MetricsRequest, Point
from fleet_protocol.states import JobStatus, Verdict
from fleet_protocol.version import PROTOCOL
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
    ReleaseRequest,
    StartRequest,
    TransitionAnswer,
    UploadAnswer,
)

TOKEN = "agent-token-of-the-tests"
STATUSES = {
    "start": JobStatus.RUNNING,
    "complete": JobStatus.COMPLETED,
    "fail": JobStatus.FAILED,
    "release": JobStatus.PENDING,
}
BODIES: dict[str, type[StartRequest | CompleteRequest | FailRequest | ReleaseRequest]] = {
    "start": StartRequest,
    "complete": CompleteRequest,
    "fail": FailRequest,
    "release": ReleaseRequest,
}


def job_spec(model: str = "mlp", **more: object) -> JobSpec:
    fields: dict[str, object] = {
        "job_id": JobId("0123456789abcdef"),
        "name": f"{model} on the watch",
        "model": model,
        "mode": "realistic",
        "hyper": {},
        "split_recipe": "host",
        "train_hosts": ("a", "b"),
        "seed": 7,
        "n_resamples": 10,
        "needs": Needs(),
    }
    return JobSpec.model_validate(fields | more)


def hashed(token: str) -> str | None:
    """SHA-256 of the secret in an agent's credential."""
    parts = token.split("_")
    return hashlib.sha256(parts[2].encode()).hexdigest() if len(parts) == 4 else None


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: no Nagle delays
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the tests' own process keeps its handlers


class Coordinator:
    """Starts and stops on one port. `calls` is what it was told, in order."""

    full_for = 0
    """How many pieces of logs find no room."""
    secrets_seen = 0
    """Requests with a token, of those that an enrolment makes."""
    clock_skew = timedelta()
    is_deaf = False
    """Nothing is read from the websockets, which stay open."""

    def __init__(self) -> None:  # noqa: PLR0915 - a line for each thing that a test may look at
        self.calls: list[tuple[str, BaseModel]] = []
        self.logs: dict[AttemptId, bytearray] = defaultdict(bytearray)
        self.holes: dict[AttemptId, list[tuple[int, int]]] = defaultdict(list)
        """Begin and end of what agents declared lost, where the log has zeros."""
        self.artifacts: dict[str, bytes] = {}
        self.partial: dict[str, bytes] = {}
        self.points: dict[AttemptId, list[Point]] = defaultdict(list)
        self.brought: set[tuple[str, str]] = set()
        """Which artifact was uploaded by which attempt."""
        self.blobs: dict[str, bytes] = {}
        self.blob_ranges: list[str | None] = []
        """The `Range` of each GET of a blob."""
        self.cut_blob_at: int | None = None
        """Cut the connection once, after so many bytes of a blob."""
        self.knows_ranges = True
        self.blob_gate = asyncio.Event()
        """Until it is set, the second half of each blob is held back."""
        self.blob_gate.set()
        self.verdicts: dict[AttemptId, HeartbeatAnswer] = {}
        self.problems: dict[str, list[Problem]] = defaultdict(list)
        """Refusals to give, by kind of call, first come first."""
        self.lost_answers: dict[str, int] = defaultdict(int)
        """How many answers of a kind get lost after the call took effect."""
        self.hello_verdicts: tuple[AttemptVerdict, ...] = ()
        self.heartbeat_seconds = 0.05
        self.joins: dict[str, tuple[str, str, str]] = {}
        """Who enrolled by which token."""
        self.enrolled: dict[str, str] = {}
        """Hashes of secrets by credential."""
        self.cut_after_frames: int | None = None
        """Cut the websocket after so many frames of log, before they are acknowledged."""
        self.has_websocket = True
        self.unwanted: set[AttemptId] = set()
        """Attempts whose log is refused for good."""
        self.received_bytes = 0
        """Log bytes that came, repeated ones counted again."""
        self._jobs: list[ClaimAnswer] = []
        self._granted: dict[str, ClaimAnswer] = {}
        self._changed = asyncio.Condition()
        self._sockets: set[WebSocket] = set()
        self._listener = _listen(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    # For the tests

    async def start(self) -> None:
        if self._listener.fileno() < 0:
            self._listener = _listen(int(self.url.rpartition(":")[2]))
        config = uvicorn.Config(
            self._app(),
            date_header=False,
            log_config=None,
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Gone at once, as after SIGKILL: nobody gets a last answer."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await self._serving
        self._listener.close()
        self._server = None

    def offer(self, spec: JobSpec, number: int = 1, checkpoint: Sha256 | None = None) -> AttemptId:
        attempt = new_attempt_id()
        self._jobs.append(
            ClaimAnswer(job=spec, attempt=attempt, number=number, lease_seconds=600, checkpoint=checkpoint)
        )
        return attempt

    def hold(self, data: bytes) -> Sha256:
        """Have a blob; its name."""
        sha = Sha256(hashlib.sha256(data).hexdigest())
        self.blobs[sha] = data
        return sha

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was told makes `condition` true."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def told(self, kind: str, count: int = 1) -> list[BaseModel]:
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    def of(self, kind: str) -> list[BaseModel]:
        return [body for name, body in self.calls if name == kind]

    async def push_stop(self, attempt: AttemptId, why: str) -> None:
        for connection in self._sockets:
            await connection.send_text(Stop(attempt=attempt, why=why).model_dump_json())

    # The interface

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/health", self._health, methods=["GET"]),
                Route("/v1/enrol", self._enrol, methods=["POST"]),
                Route("/v1/worker/credential", self._replace_credential, methods=["POST"]),
                Route("/v1/worker/hello", self._hello, methods=["POST"]),
                Route("/v1/job/claim", self._claim, methods=["POST"]),
                Route("/v1/job/{job}/heartbeat", self._heartbeat, methods=["POST"]),
                Route("/v1/job/{job}/{verb}", self._transition, methods=["POST"]),
                Route("/v1/model/{sha}", self._model, methods=["PUT", "HEAD"]),
                Route("/v1/blob/{sha}", self._take_blob, methods=["PUT", "HEAD"]),
                Route("/v1/blob/{sha}", self._give_blob, methods=["GET"]),
                Route("/v1/attempt/{attempt}/checkpoint", self._checkpoint, methods=["PUT"]),
                Route("/v1/attempt/{attempt}/metrics", self._metrics, methods=["POST"]),
                Route("/v1/attempt/{attempt}/log", self._log, methods=["PATCH", "HEAD"]),
                WebSocketRoute("/v1/worker/stream", self._stream),
            ]
        )

    async def _note(self, kind: str, body: BaseModel) -> None:
        async with self._changed:
            self.calls.append((kind, body))
            self._changed.notify_all()

    async def _stir(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _problem(self, kind: str, request: Request) -> Response | None:
        _, _, token = request.headers.get("authorization", "").partition(" ")
        if token != TOKEN and hashed(token) not in self.enrolled.values():
            problem = Problem(title="no", status=401, detail="who are you?", code=Code.NOT_AUTHENTICATED)
        elif self.problems[kind]:
            problem = self.problems[kind].pop(0)
        else:
            return None
        return Response(problem.model_dump_json(), problem.status, media_type="application/problem+json")

    async def _answer(self, kind: str, body: BaseModel) -> Response:
        if self.lost_answers[kind]:
            self.lost_answers[kind] -= 1
            return Response(status_code=503)
        return JSONResponse(body.model_dump(mode="json"))

    async def _health(self, request: Request) -> Response:
        self.secrets_seen += "authorization" in request.headers
        there = format_datetime(datetime.now(UTC) + self.clock_skew, usegmt=True)
        return JSONResponse({"status": "ok"}, headers={"Date": there})

    async def _enrol(self, request: Request) -> Response:
        """By the rules of a token for one worker: the same request again has the same answer."""
        body = await request.json()
        _, _, token = request.headers.get("authorization", "").partition(" ")
        self.secrets_seen += 1
        mine = (body["worker"], body["credential"], body["secret_sha256"])
        if refusal := next(iter(self.problems["enrol"]), None):
            return Response(refusal.model_dump_json(), refusal.status, media_type="application/problem+json")
        if self.joins.setdefault(token, mine) != mine:
            used = Problem(title="no", status=403, detail="it was used", code="join_token_used_up")
            return Response(used.model_dump_json(), 403, media_type="application/problem+json")
        self.enrolled[body["credential"]] = body["secret_sha256"]
        if self.lost_answers["enrol"]:
            self.lost_answers["enrol"] -= 1
            return Response(status_code=200, content=b"lost")
        told = {key: body[key] for key in ("worker", "name", "credential")}
        return JSONResponse(told | {"fleet": "lab", "server_time": datetime.now(UTC).isoformat()})

    async def _replace_credential(self, request: Request) -> Response:
        """Both are good from now on; the rule for the old one is the real coordinator's."""
        if refusal := self._problem("credential", request):
            return refusal
        body = await request.json()
        self.enrolled[body["credential"]] = body["secret_sha256"]
        lost = self.lost_answers["credential"]
        self.lost_answers["credential"] = max(0, lost - 1)
        return Response(status_code=503 if lost else 204)

    async def _hello(self, request: Request) -> Response:
        body = HelloRequest.model_validate_json(await request.body())
        await self._note("hello", body)
        return self._problem("hello", request) or await self._answer(
            "hello",
            HelloAnswer(
                version="test",
                protocol=PROTOCOL,
                server_time=datetime.now(UTC),
                heartbeat_seconds=self.heartbeat_seconds,
                attempts=self.hello_verdicts,
            ),
        )

    async def _claim(self, request: Request) -> Response:
        body = ClaimRequest.model_validate_json(await request.body())
        await self._note("claim", body)
        if refusal := self._problem("claim", request):
            return refusal
        for _ in range(int(body.wait / 0.01) + 1):
            if body.claim_id not in self._granted and self._jobs:
                self._granted[body.claim_id] = self._jobs.pop(0)
            if granted := self._granted.get(body.claim_id):
                return await self._answer("claim", granted)
            await asyncio.sleep(0.01)
        return Response(status_code=204)

    async def _heartbeat(self, request: Request) -> Response:
        body = HeartbeatRequest.model_validate_json(await request.body())
        await self._note("heartbeat", body)
        answer = self.verdicts.get(body.attempt, HeartbeatAnswer(verdict=Verdict.CONTINUE, lease_seconds=600))
        return self._problem("heartbeat", request) or await self._answer("heartbeat", answer)

    async def _transition(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        body = BODIES[verb].model_validate_json(await request.body())
        refusal = self._problem(verb, request)
        if (
            refusal is None
            and isinstance(body, CompleteRequest)
            and (body.artifact, body.attempt) not in self.brought
        ):
            problem = Problem(title="no", status=409, detail="no such artifact", code=Code.ARTIFACT_MISSING)
            refusal = Response(problem.model_dump_json(), 409)
        await self._note(verb if refusal is None else f"refused {verb}", body)
        answer = TransitionAnswer(job_id=request.path_params["job"], status=STATUSES[verb])
        return refusal or await self._answer(verb, answer)

    async def _model(self, request: Request) -> Response:
        sha = Sha256(request.path_params["sha"])
        if refusal := self._problem("upload", request):
            return refusal
        if request.method == "HEAD":
            if sha in self.artifacts:
                return Response(headers={"Upload-Offset": "0", "Upload-Complete": "?1"})
            if sha in self.partial:
                return Response(headers={"Upload-Offset": str(len(self.partial[sha]))})
            return Response(status_code=404)
        if sha in self.artifacts:
            body = await request.body()
            assert len(body) <= SMALL_BYTES
            return self._took(request, sha)
        data = self.partial.pop(sha, b"") if "content-range" in request.headers else b""
        async for block in request.stream():
            data += block
        if hashlib.sha256(data).hexdigest() != sha:
            problem = Problem(title="no", status=422, detail="other bytes", code=Code.DIGEST_MISMATCH)
            return Response(problem.model_dump_json(), 422)
        self.artifacts[sha] = data
        return self._took(request, sha)

    def _took(self, request: Request, sha: Sha256) -> Response:
        self.brought.add((sha, request.query_params["attempt"]))
        answer = UploadAnswer(sha256=sha, size_bytes=len(self.artifacts[sha]), stored=True)
        return JSONResponse(answer.model_dump(mode="json"), 201)

    async def _give_blob(self, request: Request) -> Response:
        if refusal := self._problem("blob", request):
            return refusal
        data = self.blobs.get(request.path_params["sha"])
        asked = request.headers.get("range")
        self.blob_ranges.append(asked)
        await self._stir()
        if data is None:
            problem = Problem(title="no", status=404, detail="no such blob", code=Code.BLOB_MISSING)
            return Response(problem.model_dump_json(), 404)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.knows_ranges else 0
        if start and start >= len(data):
            return Response(status_code=416)
        headers = {"Content-Length": str(len(data) - start)}
        cut, self.cut_blob_at = self.cut_blob_at, None

        async def blocks() -> AsyncIterator[bytes]:
            middle = len(data) - (len(data) - start) // 2 if cut is None else cut
            yield data[start:middle]
            if cut is not None:
                raise ConnectionResetError
            await self.blob_gate.wait()
            yield data[middle:]

        return StreamingResponse(blocks(), 206 if start else 200, headers)

    async def _take_blob(self, request: Request) -> Response:
        sha = Sha256(request.path_params["sha"])
        if refusal := self._problem("upload", request):
            return refusal
        if request.method == "HEAD":
            return (
                Response(headers={"Upload-Complete": "?1"})
                if sha in self.blobs
                else Response(status_code=404)
            )
        self.blobs[sha] = await request.body()
        answer = UploadAnswer(sha256=sha, size_bytes=len(self.blobs[sha]), stored=True)
        return JSONResponse(answer.model_dump(mode="json"), 201)

    async def _checkpoint(self, request: Request) -> Response:
        body = CheckpointRequest.model_validate_json(await request.body())
        assert body.sha256 in self.blobs
        await self._note("checkpoint", body)
        answer = TransitionAnswer(job_id=JobId("0" * 16), status=JobStatus.RUNNING)
        return self._problem("checkpoint", request) or await self._answer("checkpoint", answer)

    async def _metrics(self, request: Request) -> Response:
        body = MetricsRequest.model_validate_json(await request.body())
        stored = self.points[AttemptId(request.path_params["attempt"])]
        if refusal := self._problem("metrics", request):
            return refusal
        if body.first > len(stored):
            current: dict[str, str | int | None] = {"next": len(stored)}
            problem = Problem(title="no", status=409, detail="no", code=Code.METRICS_GAP, current=current)
            return Response(problem.model_dump_json(), 409)
        stored += body.points[len(stored) - body.first :]
        await self._note("metrics", body)
        return await self._answer("metrics", MetricsAnswer(next=len(stored)))

    # Logs

    async def _append(self, attempt: AttemptId, offset: int, data: bytes) -> Ack | Nack:
        """The one append rule."""
        stored = self.logs[attempt]
        if self.full_for:
            self.full_for -= 1
            return Nack(attempt=attempt, durable=len(stored), reason="full")
        self.received_bytes += len(data)
        if attempt in self.unwanted:
            return Nack(attempt=attempt, durable=len(stored), reason="unknown")
        if offset > len(stored):
            return Nack(attempt=attempt, durable=len(stored), reason="gap")
        overlap = len(stored) - offset
        if stored[offset : offset + len(data)] != data[:overlap]:
            return Nack(attempt=attempt, durable=len(stored), reason="diverged")
        stored += data[overlap:]
        await self._stir()
        return Ack(attempt=attempt, durable=len(stored))

    async def _append_hole(self, attempt: AttemptId, offset: int, length: int) -> Ack | Nack:
        if offset == len(self.logs[attempt]):
            self.holes[attempt].append((offset, offset + length))
            return await self._append(attempt, offset, bytes(length))
        return await self._append(attempt, offset, b"")

    async def _log(self, request: Request) -> Response:
        attempt = AttemptId(request.path_params["attempt"])
        if refusal := self._problem("log", request):
            return refusal
        if request.method == "HEAD":
            return Response(headers={"Upload-Offset": str(len(self.logs[attempt]))})
        offset, hole = int(request.headers["upload-offset"]), request.headers.get(HOLE_HEADER)
        if hole is None:
            word = await self._append(attempt, offset, await request.body())
        else:
            word = await self._append_hole(attempt, offset, int(hole))
        if isinstance(word, Ack):
            return JSONResponse(AppendAnswer(durable=word.durable).model_dump())
        status, code = {"gap": (409, Code.LOG_GAP), "full": (507, Code.STORAGE_FULL)}.get(
            word.reason, (409, Code.LOG_DIVERGED)
        )
        current: dict[str, str | int | None] = {"durable": word.durable}
        problem = Problem(title="no", status=status, detail="no", code=code, current=current)
        return Response(problem.model_dump_json(), status)

    async def _stream(self, connection: WebSocket) -> None:
        if not self.has_websocket:
            await connection.send_denial_response(Response("no upgrades here", 400))
            return
        await connection.accept()
        hello = from_agent.validate_json(await connection.receive_text())
        assert isinstance(hello, StreamHello)
        await self._note("stream", hello)
        self._sockets.add(connection)
        try:
            async for word in self._words(connection):
                await connection.send_text(word.model_dump_json())
        except WebSocketDisconnect:
            pass
        finally:
            self._sockets.discard(connection)

    async def _words(self, connection: WebSocket) -> AsyncIterator[Resume | Ack | Nack]:
        while True:
            while self.is_deaf:  # noqa: ASYNC110 - the test sets a plain word
                await asyncio.sleep(0.01)
            message = await connection.receive()
            if message["type"] == "websocket.disconnect":
                return
            if text := message.get("text"):
                said = from_agent.validate_json(text)
                if isinstance(said, Ask):
                    yield Resume(attempt=said.attempt, durable=len(self.logs[said.attempt]))
                if not isinstance(said, Hole):
                    continue
                word = await self._append_hole(said.attempt, said.offset, said.length)
            else:
                word = await self._append(*parse_data_frame(message["bytes"]))
            if self.cut_after_frames is not None:
                self.cut_after_frames -= 1
                if self.cut_after_frames <= 0:
                    self.cut_after_frames = None
                    await connection.close(1011)
                    return
            yield word
