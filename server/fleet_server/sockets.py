"""Who only sends or waits still has to listen: a peer that went away is learned of from receiving."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import structlog
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from fleet_server.logs.closed import Damaged

log = structlog.get_logger()
CLOSE_SECONDS = 5
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
REASON_CHARS = 120  # a close has room for 123 bytes


async def until_gone(websocket: WebSocket, sending: Coroutine[None, None, None]) -> None:
    """Run `sending` until it ends or the peer goes; then close. It is told of `sending`'s
    TimeoutError that it is too slow, and of Damaged which log cannot be read.
    """
    code, reason = 1000, ""
    tasks = asyncio.ensure_future(sending), asyncio.ensure_future(_drain(websocket))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        try:
            await task
        except TimeoutError:
            code, reason = TRY_AGAIN_LATER, "too slow; go on from the last byte"
        except Damaged as error:  # an OSError, but ours
            log.error("log_damaged", why=str(error))
            code, reason = INTERNAL_ERROR, str(error)[:REASON_CHARS]
        except (asyncio.CancelledError, WebSocketDisconnect, OSError):
            pass
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):  # closed already by the peer
        async with asyncio.timeout(CLOSE_SECONDS):  # one that takes nothing does not take this either
            await websocket.close(code, reason)


@asynccontextmanager
async def hanging_up(request: Request) -> AsyncIterator[asyncio.Future[None]]:
    """A future that is done once the caller of a request, whose body has been read, has gone."""
    listening = asyncio.ensure_future(_disconnected(request))
    try:
        yield listening
    finally:
        listening.cancel()
        await asyncio.wait({listening})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _drain(websocket: WebSocket) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
