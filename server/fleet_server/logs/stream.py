"""One agent's websocket: log bytes in, acknowledgements, stop and wake-up out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import structlog
from pydantic import ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fleet_protocol.ids import AttemptId, WorkerId
from fleet_protocol.logs import (
    MAX_CHUNK_BYTES,
    Ack,
    Ask,
    GaugesWord,
    Hole,
    Nack,
    Resume,
    Stop,
    StreamHello,
    Wake,
    from_agent,
    parse_data_frame,
)
from fleet_protocol.workers import Gauges
from fleet_server.errors import LogClosed, LogDiverged, LogGap, Refusal, StorageFull, UnknownAttempt
from fleet_server.logs.service import Logs

log = structlog.get_logger()
Word = Resume | Ack | Nack | Stop | Wake
IsOwn = Callable[[WorkerId, AttemptId | None], Awaitable[bool]]
POLICY_VIOLATION = 1008
UNDER_WAY = 8 * 1024 * 1024 // MAX_CHUNK_BYTES
"""Chunks of one agent that are written at the same time, each of another attempt; further ones are not read yet."""
REASONS: Mapping[type[Refusal], Literal["gap", "diverged", "closed", "full", "unknown"]] = {
    LogGap: "gap",
    LogDiverged: "diverged",
    LogClosed: "closed",
    StorageFull: "full",
    UnknownAttempt: "unknown",
}


@dataclass(slots=True)
class Streams:
    """The open websockets of agents, to push to; who is not connected learns from its next heartbeat."""

    on_gauges: Callable[[WorkerId, Gauges], None]
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
    """Takes the chunks of many attempts at once, so that they share the disk's syncs; the store keeps each in order."""

    def __init__(
        self, websocket: WebSocket, logs: Logs, streams: Streams, is_own: IsOwn | None = None
    ) -> None:
        """`is_own` says whether a worker and an attempt are the caller's; without it any is."""
        self._websocket = websocket
        self._is_own = is_own
        self._own: set[AttemptId] = set()
        self._logs = logs
        self._streams = streams
        self._worker = WorkerId("")
        self._outbox: asyncio.Queue[Word | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(UNDER_WAY)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send())
            await self._read(group)
            sending.cancel()

    async def _send(self) -> None:
        with suppress(WebSocketDisconnect, OSError):  # whoever reads sees the same end
            while (word := await self._outbox.get()) is not None:
                await self._websocket.send_text(word.model_dump_json())
            await self._close()

    async def _close(self, code: int = 1000, reason: str = "") -> None:
        with suppress(RuntimeError, WebSocketDisconnect, OSError):  # closed already by the peer
            await self._websocket.close(code, reason)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        worker: WorkerId | None = None
        try:
            worker = await self._hello()
            while True:
                await self._take(await self._websocket.receive(), group)
        except WebSocketDisconnect:
            pass
        except (ValidationError, ValueError) as error:
            log.warning("agent_stream_refused", worker=worker, error=type(error).__name__)
            await self._close(POLICY_VIOLATION, "not a message of this protocol")
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
        if self._is_own is not None and not await self._is_own(word.worker, None):
            raise ValueError("this credential is another worker's")
        self._worker = word.worker
        self._streams.outboxes[word.worker] = self._outbox
        return word.worker

    async def _take(self, message: Message, group: asyncio.TaskGroup) -> None:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        answer: Coroutine[None, None, Word]
        if (frame := message.get("bytes")) is not None:
            attempt, offset, data = parse_data_frame(frame)
            await self._require_own(attempt)
            answer = self._append(attempt, self._logs.append(attempt, offset, data))
        else:
            match from_agent.validate_json(message["text"]):
                case Ask() as ask:
                    await self._require_own(ask.attempt)
                    answer = self._resume(ask.attempt)
                case Hole() as hole:
                    await self._require_own(hole.attempt)
                    lose = self._logs.append_hole(hole.attempt, hole.offset, hole.length)
                    answer = self._append(hole.attempt, lose)
                case GaugesWord() as gauges:
                    self._streams.on_gauges(self._worker, gauges)
                    return
                case _:
                    return
        await self._room.acquire()
        group.create_task(self._answered(answer))

    async def _require_own(self, attempt: AttemptId) -> None:
        if self._is_own is None or attempt in self._own:
            return
        if not await self._is_own(self._worker, attempt):
            raise ValueError("that attempt is another worker's")
        self._own.add(attempt)

    async def _answered(self, answer: Coroutine[None, None, Word]) -> None:
        try:
            self._outbox.put_nowait(await answer)
        finally:
            self._room.release()

    async def _resume(self, attempt: AttemptId) -> Resume | Nack:
        answer = await self._append(attempt, self._logs.durable(attempt))
        return answer if isinstance(answer, Nack) else Resume(attempt=attempt, durable=answer.durable)

    async def _append(self, attempt: AttemptId, append: Coroutine[None, None, int]) -> Ack | Nack:
        try:
            return Ack(attempt=attempt, durable=await append)
        except (LogGap, LogDiverged, LogClosed, StorageFull, UnknownAttempt) as refusal:
            durable = (refusal.current or {}).get("durable")
            return Nack(attempt=attempt, durable=int(durable or 0), reason=REASONS[type(refusal)])
        except OSError as error:
            log.error("log_not_stored", attempt=attempt, why=str(error))
            durable = self._logs.store.lengths.get(attempt, 0)  # asking the disk may fail again
            return Nack(attempt=attempt, durable=durable, reason="full")
