"""Websockets in memory: the real client and uvicorn's real protocol, with a line between them that may break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from tests.simulation.loop import VirtualLoop

RETRANSMIT_SECONDS = 1.0
ADDRESSES = {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8490)}


class Line:
    """One connection: bytes arrive in order, late, or, where a partition holds them back, when that is over."""

    def __init__(self, loop: VirtualLoop, latency: Callable[[], float], breaks: Callable[[], bool]) -> None:
        self._loop, self._latency, self._breaks = loop, latency, breaks
        self.is_held: Callable[[End], bool] = lambda _: False
        self.ends: list[End] = []
        self.is_broken = False

    def join(self, client: asyncio.BaseProtocol, server: asyncio.BaseProtocol) -> End:
        """Connect both; the client's end."""
        self.ends = [End(self, client, copy_context()), End(self, server, Context())]
        for end in self.ends:
            end.context.run(end.protocol.connection_made, end)
        return self.ends[0]

    def send(self, sender: End, data: bytes) -> None:
        if self.is_broken:
            return
        if self._breaks():
            self.tear()
            return
        receiver = self.other(sender)
        receiver.due = max(receiver.due + 1e-6, self._loop.time() + self._latency())
        receiver.queue.append(data)
        self._loop.call_at(receiver.due, self._arrive, receiver)

    def finish(self, sender: End) -> None:
        """An orderly end, after everything that was sent."""
        self.send(sender, b"")

    def tear(self) -> None:
        """Both sides find the connection gone; what was on its way is lost."""
        if not self.is_broken:
            self.is_broken = True
            for end in self.ends:
                error = ConnectionResetError("connection reset")
                self._loop.call_soon(end.lose, error, context=end.context)

    def other(self, end: End) -> End:
        return self.ends[1 - self.ends.index(end)]

    def _arrive(self, receiver: End) -> None:
        if self.is_broken or not receiver.queue:
            return
        if self.is_held(receiver):
            self._loop.call_later(RETRANSMIT_SECONDS, self._arrive, receiver)
            return
        receiver.context.run(receiver.take, receiver.queue.pop(0))


class End(asyncio.Transport):
    """What one side's protocol writes to."""

    def __init__(self, line: Line, protocol: asyncio.BaseProtocol, context: Context) -> None:
        super().__init__(ADDRESSES)
        self._line, self.protocol = line, protocol
        self.context = context
        self.queue: list[bytes] = []
        self.due = 0.0
        self._is_closing = False
        self._is_lost = False

    def write(self, data: Any) -> None:
        if data and not self._is_closing:
            self._line.send(self, bytes(data))

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._line.finish(self)
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        self.close()

    def take(self, data: bytes) -> None:
        if self._is_lost:
            return
        if data:
            self.protocol.data_received(data)  # type: ignore[attr-defined]  # a streaming protocol, as both are
        else:
            self.protocol.eof_received()  # type: ignore[attr-defined]  # it is a streaming protocol, as both are
            self.close()

    def lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self.protocol.connection_lost(error)

    def pause_reading(self) -> None:
        """Nothing here sends so much that it mattered."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer to fill."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol
