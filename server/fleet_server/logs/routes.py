"""Logs over HTTP and websocket: `PATCH` and `HEAD` for agents, `GET` and `WS` for readers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response, WebSocket

from fleet_protocol.ids import UUID_PATTERN, AttemptId
from fleet_protocol.logs import MAX_HOLE_BYTES, AppendAnswer, LogStart
from fleet_server.access.guard import Guarded, GuardedRoute
from fleet_server.bodies import capped
from fleet_server.errors import Malformed
from fleet_server.jobs.model import Attempt
from fleet_server.logs.service import Logs, Where
from fleet_server.logs.stream import AgentStream
from fleet_server.services import Use
from fleet_server.sockets import until_gone

router = APIRouter(prefix="/v1", tags=["logs"], route_class=GuardedRoute)
AttemptPath = Annotated[AttemptId, Path(pattern=UUID_PATTERN)]
AttemptQuery = Annotated[AttemptId | None, Query(pattern=UUID_PATTERN)]
Offset = Annotated[int | None, Query(ge=0)]
Tail = Annotated[int | None, Query(ge=0, le=1_000_000)]
MAX_APPEND_BYTES = 1024 * 1024
MAX_READ_BYTES = 4 * 1024 * 1024


@router.patch("/attempt/{attempt}/log")
async def append_log(
    attempt: AttemptPath,
    request: Request,
    use: Use,
    upload_offset: Annotated[int, Header(ge=0)],
    fleet_log_hole: Annotated[int | None, Header(ge=1, le=MAX_HOLE_BYTES)] = None,
) -> AppendAnswer:
    """Append bytes at `Upload-Offset`, or declare `Fleet-Log-Hole` of them lost; answers the durable length."""
    data = await capped(request, MAX_APPEND_BYTES).body()
    if fleet_log_hole is not None:
        if data:
            raise Malformed("A hole has a length and no bytes.")
        return AppendAnswer(durable=await use.logs.append_hole(attempt, upload_offset, fleet_log_hole))
    return AppendAnswer(durable=await use.logs.append(attempt, upload_offset, data))


@router.head("/attempt/{attempt}/log")
async def log_state(attempt: AttemptPath, use: Use) -> Response:
    """The durable length, as `Upload-Offset`."""
    return Response(headers={"Upload-Offset": str(await use.logs.durable(attempt))})


@router.get("/attempt/{attempt}/log", response_class=Response)
async def get_attempt_log(
    attempt: AttemptPath, use: Use, offset: Offset = None, tail: Tail = None
) -> Response:
    """A part of any attempt's log, at most 4 MiB; go on from the offset after it."""
    return await _part(use.logs, await use.logs.attempt(attempt), Where(offset, tail))


@router.get("/job/{ref}/log", response_class=Response)
async def get_job_log(
    ref: str, use: Use, offset: Offset = None, tail: Tail = None, attempt: AttemptQuery = None
) -> Response:
    """A part of the log of a job's current or last attempt, at most 4 MiB."""
    return await _part(use.logs, await use.logs.of_job(ref, attempt), Where(offset, tail))


async def _part(logs: Logs, attempt: Attempt, where: Where) -> Response:
    offset = await logs.start_offset(attempt.attempt, where)
    headers = {
        "Fleet-Attempt": attempt.attempt,
        "Fleet-Log-Offset": str(offset),
        "Fleet-Log-Length": str(logs.store.durable(attempt.attempt)),
        "Fleet-Log-Open": "?1" if logs.is_open(attempt) else "?0",
    }
    data = await logs.store.read(attempt.attempt, offset, MAX_READ_BYTES)
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.websocket("/job/{ref}/log", dependencies=[Guarded])
async def follow_job_log(
    websocket: WebSocket,
    ref: str,
    use: Use,
    offset: Offset = None,
    tail: Tail = None,
    attempt: AttemptQuery = None,
) -> None:
    """The log's bytes, history first and then live; a word before (`start`) and one after (`end`)."""
    found = await use.logs.of_job(ref, attempt)
    await websocket.accept()
    where = Where(offset, tail)
    await until_gone(websocket, _send_log(websocket, use.logs, found, where))


async def _send_log(websocket: WebSocket, logs: Logs, attempt: Attempt, where: Where) -> None:
    offset = await logs.start_offset(attempt.attempt, where)
    await websocket.send_text(LogStart(attempt=attempt.attempt, offset=offset).model_dump_json())
    async for part in logs.follow(attempt.attempt, offset):
        if isinstance(part, bytes):
            await websocket.send_bytes(part)
        else:
            await websocket.send_text(part.model_dump_json())


@router.websocket("/worker/stream", dependencies=[Guarded])
async def worker_stream(websocket: WebSocket, use: Use) -> None:
    """An agent's logs coming in; stop and wake-up going out."""
    await websocket.accept()
    await AgentStream(websocket, use.logs, use.streams).run()
