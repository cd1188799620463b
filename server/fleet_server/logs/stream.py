"""One agent's websocket: log bytes in, acknowledgements, stop and wake-up out."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fleet_protocol.ids import AttemptId, WorkerId
from fleet_protocol.logs import (
    Ack,
    Ask,
    Hole,
    Nack,
    Resume,
    Stop,
    StreamHello,
    Wake,
    from_agent,
    parse_data_frame,
)
from fleet_server.errors import LogDiverged, LogGap, Refusal, StorageFull, UnknownAttempt
from fleet_server.logs.service import Logs

log = structlog.get_logger()
Word = Resume | Ack | Nack | Stop | Wake
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013


@dataclass(slots=True)
class Streams:
    """The open websockets of agents, to push to; who is not connected learns from its next heartbeat."""

    outboxes: dict[WorkerId, asyncio.Queue[Word | None]] = field(default_factory=dict)

    def push(self, worker: WorkerId, word: Word) -> None:
        if outbox := self.outboxes.get(worker):
            outbox.put_nowait(word)

    def push_stop(self, worker: WorkerId, attempt: AttemptId, why: str) -> None:
        self.push(worker, Stop(attempt=attempt, why=why))

    def close(self) -> None:
        for outbox in self.outboxes.values():
            outbox.put_nowait(None)


class AgentStream:
    """Reads in order, so one chunk of an attempt is on disk before the next is looked at."""

    def __init__(self, websocket: WebSocket, logs: Logs, streams: Streams) -> None:
        self._websocket = websocket
        self._logs = logs
        self._streams = streams
        self._outbox: asyncio.Queue[Word | None] = asyncio.Queue()

    async def run(self) -> None:
        sending = asyncio.ensure_future(self._send())
        reading = asyncio.ensure_future(self._read())
        await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, reading):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, OSError):
                await task
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):  # closed already by the peer
            await self._websocket.close()

    async def _send(self) -> None:
        while (word := await self._outbox.get()) is not None:
            await self._websocket.send_text(word.model_dump_json())

    async def _read(self) -> None:
        worker: WorkerId | None = None
        try:
            worker = await self._hello()
            while True:
                await self._take(await self._websocket.receive())
        except (ValidationError, ValueError) as error:
            log.warning("agent_stream_refused", worker=worker, error=type(error).__name__)
            await self._websocket.close(POLICY_VIOLATION, "not a message of this protocol")
        except Refusal as refusal:
            await self._websocket.close(TRY_AGAIN_LATER, refusal.detail[:100])
        finally:
            if worker and self._streams.outboxes.get(worker) is self._outbox:
                del self._streams.outboxes[worker]

    async def _hello(self) -> WorkerId:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        word = from_agent.validate_json(message.get("text") or "")
        if not isinstance(word, StreamHello):
            raise ValueError("the first message must be hello")
        self._streams.outboxes[word.worker] = self._outbox
        return word.worker

    async def _take(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if (data := message.get("bytes")) is not None:
            self._outbox.put_nowait(await self._append(*parse_data_frame(data)))
            return
        word = from_agent.validate_json(message["text"])
        if isinstance(word, Ask):
            self._outbox.put_nowait(await self._resume(word.attempt))
        elif isinstance(word, Hole):
            self._outbox.put_nowait(await self._append(word.attempt, word.offset, word.length))

    async def _append(self, attempt: AttemptId, offset: int, what: bytes | int) -> Ack | Nack:
        """Bytes, or the length of a hole."""
        try:
            append = (
                self._logs.append(attempt, offset, what)
                if isinstance(what, bytes)
                else (self._logs.append_hole(attempt, offset, what))
            )
            return Ack(attempt=attempt, durable=await append)
        except LogGap:
            return Nack(attempt=attempt, durable=self._logs.store.durable(attempt), reason="gap")
        except LogDiverged:
            return Nack(attempt=attempt, durable=self._logs.store.durable(attempt), reason="diverged")
        except StorageFull:
            return Nack(attempt=attempt, durable=self._logs.store.durable(attempt), reason="full")
        except UnknownAttempt:
            return Nack(attempt=attempt, durable=0, reason="unknown")

    async def _resume(self, attempt: AttemptId) -> Resume | Nack:
        try:
            return Resume(attempt=attempt, durable=await self._logs.durable(attempt))
        except UnknownAttempt:
            return Nack(attempt=attempt, durable=0, reason="unknown")
