"""Logs over HTTP and websocket: `PATCH` and `HEAD` for agents, `GET` and `WS` for readers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response, WebSocket

from fleet_protocol.ids import UUID_PATTERN, AttemptId, WorkerId
from fleet_protocol.logs import HOLES_HEADER, MAX_HOLE_BYTES, AppendAnswer, LogStart
from fleet_server.access.guard import CallerOf, Guarded, GuardedRoute
from fleet_server.bodies import capped
from fleet_server.errors import Malformed
from fleet_server.logs.service import Logs, Part, Where
from fleet_server.logs.stream import AgentStream
from fleet_server.services import Use
from fleet_server.sockets import until_gone

router = APIRouter(prefix="/v1", tags=["logs"], route_class=GuardedRoute)
AttemptPath = Annotated[AttemptId, Path(pattern=UUID_PATTERN)]
AttemptQuery = Annotated[AttemptId | None, Query(pattern=UUID_PATTERN)]
MAX_APPEND_BYTES = 1024 * 1024
MAX_READ_BYTES = 4 * 1024 * 1024
MAX_SECONDS_AGO = 1e9
SLOW_SECONDS = 20


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


async def _where(
    offset: Annotated[int | None, Query(ge=0)] = None,
    tail: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    since: Annotated[str | None, Query(max_length=40)] = None,
) -> Where:
    """Where to begin: at a byte, at the last lines, or at what came since a time or so many seconds ago."""
    if (offset, tail, since).count(None) < 2:
        raise Malformed("Give one of offset, tail and since, not several.")
    return Where(offset, tail, None if since is None else _moment(since))


def _moment(given: str) -> datetime | timedelta:
    with suppress(ValueError):
        if 0 <= (seconds := float(given)) <= MAX_SECONDS_AGO:
            return timedelta(seconds=seconds)
    with suppress(ValueError):
        if (time := datetime.fromisoformat(given)).tzinfo is not None:
            return time
    raise Malformed("`since` is a number of seconds ago, or a time as RFC 3339 with its zone.")


From = Annotated[Where, Depends(_where)]


@router.get("/attempt/{attempt}/log", response_class=Response)
async def get_attempt_log(attempt: AttemptPath, use: Use, where: From) -> Response:
    """A part of any attempt's log, at most 4 MiB; go on from the offset after it."""
    return _answer(await use.logs.part(await use.logs.attempt(attempt), where, MAX_READ_BYTES))


@router.get("/job/{ref}/log", response_class=Response)
async def get_job_log(ref: str, use: Use, where: From, attempt: AttemptQuery = None) -> Response:
    """A part of the log of a job's current or last attempt, at most 4 MiB."""
    return _answer(await use.logs.part(await use.logs.of_job(ref, attempt), where, MAX_READ_BYTES))


def _answer(part: Part) -> Response:
    headers = {
        "Fleet-Attempt": part.attempt,
        "Fleet-Log-Offset": str(part.offset),
        "Fleet-Log-Length": str(part.length),
        "Fleet-Log-Open": "?1" if part.is_open else "?0",
        "Fleet-Log-State": part.state,
    }
    if part.holes:
        headers[HOLES_HEADER] = ",".join(f"{hole.start}-{hole.end}" for hole in part.holes)
    return Response(part.data, media_type="application/octet-stream", headers=headers)


@router.websocket("/job/{ref}/log", dependencies=[Guarded])
async def follow_job_log(
    websocket: WebSocket, ref: str, use: Use, where: From, attempt: AttemptQuery = None, times: bool = False
) -> None:
    """The log's bytes, history first and then live; a word before (`start`), for each hole, and after (`end`).

    With `times` a word says when what follows came, whenever that is another second.
    """
    found = await use.logs.of_job(ref, attempt)
    await websocket.accept()
    await until_gone(websocket, _send_log(websocket, use.logs, found.attempt, where, times))


async def _send_log(websocket: WebSocket, logs: Logs, attempt: AttemptId, where: Where, times: bool) -> None:
    """TimeoutError when the viewer takes nothing for too long; it goes on by its cursor when it can again."""
    offset = await logs.start_offset(attempt, where)
    await websocket.send_text(LogStart(attempt=attempt, offset=offset).model_dump_json())
    async for piece in logs.follow(attempt, offset, times=times):
        async with asyncio.timeout(SLOW_SECONDS):
            if isinstance(piece, bytes):
                await websocket.send_bytes(piece)
            else:
                await websocket.send_text(piece.model_dump_json())


@router.websocket("/worker/stream", dependencies=[Guarded])
async def worker_stream(websocket: WebSocket, use: Use, caller: CallerOf) -> None:
    """An agent's logs coming in; stop and wake-up going out."""
    await websocket.accept()
    bound = caller.worker

    async def is_own(worker: WorkerId, attempt: AttemptId | None) -> bool:
        return worker == bound and (attempt is None or await use.workers.holds(worker, attempt))

    await AgentStream(websocket, use.logs, use.streams, is_own if bound else None).run()
