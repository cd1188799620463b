"""Websockets that only send still have to listen: a peer that went away is learned of from receiving."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

from starlette.websockets import WebSocket, WebSocketDisconnect


async def until_gone(websocket: WebSocket, sending: Coroutine[None, None, None]) -> None:
    """Run `sending` until it ends or the peer goes; then close."""
    tasks = asyncio.ensure_future(sending), asyncio.ensure_future(_drain(websocket))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, OSError):
            await task
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):  # closed already by the peer
        await websocket.close()


async def _drain(websocket: WebSocket) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
