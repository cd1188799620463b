"""The network between one agent and the coordinator: a TCP proxy that can be as bad as any, and listens along."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections import Counter, deque
from enum import StrEnum

ACK = re.compile(rb'"type":"ack","attempt":"([0-9a-f-]{36})","durable":(\d+)[,}]')
ACK_BYTES = 200  # an ack that two reads split is found by looking back so far
REQUEST = re.compile(rb"POST /v1/job/\S+ HTTP/1\.1\r\n(?:.*\r\n)*?content-length: (\d+)\r\n", re.IGNORECASE)
READ_BYTES = 64 * 1024


class Weather(StrEnum):
    """How bytes travel."""

    CLEAR = "clear"
    REFUSING = "refusing"  # every new connection is broken off
    FROZEN = "frozen"  # nothing travels, and nobody is told
    DEAF = "deaf"  # what is asked arrives and is carried out; no answer comes back
    SLOW = "slow"
    THROTTLED = "throttled"  # a kilobyte at a time
    NO_WEBSOCKET = "no_websocket"


class Link:
    """One agent's way to the coordinator. `acknowledged` and `requests` are what went past."""

    def __init__(self, coordinator: int) -> None:
        self._coordinator = coordinator
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._clear = asyncio.Event()
        self._clear.set()
        self.weather = Weather.CLEAR
        self.acknowledged: Counter[str] = Counter()
        """By attempt, the most log bytes that the coordinator said are on its disk."""
        self.requests: deque[tuple[float, bytes]] = deque(maxlen=100)
        """Whole POSTs of the agent about jobs, and when."""

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def become(self, weather: Weather) -> None:
        """A change of weather breaks off what it would leave half-told."""
        if self.weather in (Weather.DEAF, Weather.NO_WEBSOCKET) or weather is Weather.NO_WEBSOCKET:
            self.cut()
        self.weather = weather
        if weather is Weather.FROZEN:
            self._clear.clear()
        else:
            self._clear.set()

    def cut(self) -> None:
        """Both sides see a reset; what was on its way is lost."""
        for writer in list(self._writers):
            line = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def half_close(self) -> None:
        """Both sides are told that nothing more comes, and may go on talking."""
        for writer in list(self._writers):
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            first = await reader.read(READ_BYTES)
            is_stream = b" /v1/worker/stream " in first
            if self.weather is Weather.REFUSING or (self.weather is Weather.NO_WEBSOCKET and is_stream):
                return
            answers, theirs = await asyncio.open_connection("127.0.0.1", self._coordinator)
            self._writers.add(theirs)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, theirs, first))
                group.create_task(self._bring_back(answers, writer))
        except (OSError, ExceptionGroup):
            pass
        finally:
            for one in filter(None, (writer, theirs)):
                self._writers.discard(one)
                one.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, first: bytes) -> None:
        request = b""
        data = first
        while data:
            await self._travel(data, target)
            request = self._listen(request + data)
            data = await source.read(READ_BYTES)
        await self._finish(target)

    async def _bring_back(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        before = b""
        while data := await source.read(READ_BYTES):
            for attempt, durable in ACK.findall(before + data):
                name = attempt.decode()
                self.acknowledged[name] = max(self.acknowledged[name], int(durable))
            before = data[-ACK_BYTES:]
            if self.weather is not Weather.DEAF:
                await self._travel(data, target)
        await self._finish(target)

    async def _finish(self, target: asyncio.StreamWriter) -> None:
        await self._clear.wait()
        if target.can_write_eof():
            target.write_eof()

    async def _travel(self, data: bytes, target: asyncio.StreamWriter) -> None:
        await self._clear.wait()
        size = 1024 if self.weather is Weather.THROTTLED else READ_BYTES
        for at in range(0, len(data), size):
            if self.weather in (Weather.SLOW, Weather.THROTTLED):
                await asyncio.sleep(0.3 if self.weather is Weather.SLOW else 0.02)
            target.write(data[at : at + size])
            await target.drain()

    def _listen(self, request: bytes) -> bytes:
        """Keep whole requests about jobs; what is returned is the beginning of one."""
        if not request.startswith(b"POST /v1/job/") or len(request) > READ_BYTES:
            return b""
        head, found, body = request.partition(b"\r\n\r\n")
        length = REQUEST.match(head + b"\r\n")
        if not found or not length:
            return request if not found else b""
        if len(body) < int(length[1]):
            return request
        self.requests.append((time.monotonic(), request))
        return b""
