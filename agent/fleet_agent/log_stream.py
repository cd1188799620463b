"""Carries what trainers print to the coordinator while they print it.

One websocket for all attempts, one chunk in flight per attempt; the coordinator dictates from where a log goes
on, so that any reconnect, restart or change of transport is the same question: what have you got? Where no
websocket can be had, the same bytes go by PATCH under the same rule.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import structlog
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from fleet_agent.settings import Timing
from fleet_agent.uplink import Refused, Unreachable, Uplink, is_recoverable
from fleet_protocol.errors import Code
from fleet_protocol.ids import AttemptId
from fleet_protocol.logs import (
    MAX_CHUNK_BYTES,
    Ack,
    Ask,
    Nack,
    Resume,
    Stop,
    StreamHello,
    Wake,
    data_frame,
    to_agent,
)

log = structlog.get_logger()
FRUITLESS_TRIES = 3


class Spool:
    """One attempt's log on this disk, and how much of it the coordinator has."""

    def __init__(self, attempt: AttemptId, path: Path) -> None:
        self.attempt = attempt
        self._path = path
        self._final: int | None = None
        self.durable: int | None = None
        """Bytes on the coordinator's disk; None until it told."""
        self.is_in_flight = False
        self.is_asked = False
        self.over = asyncio.Event()
        """Set when there is nothing left to send, or when no more of it is wanted."""

    def disconnect(self) -> None:
        self.durable, self.is_in_flight, self.is_asked = None, False, False

    def acknowledge(self, durable: int) -> None:
        self.durable, self.is_in_flight = durable, False
        if self._final is not None and durable >= self._final:
            self.over.set()

    def close(self) -> None:
        """Nothing is written any more: the log's length is final."""
        self._final = self._path.stat().st_size if self._path.exists() else 0
        if self._final == 0:  # nothing was printed, so there is nothing to wait for
            self.over.set()
        if self.durable is not None:
            self.acknowledge(self.durable)

    def take_chunk(self) -> bytes:
        """What comes after the durable bytes, now on its way; empty while there is nothing or another one is."""
        if self.durable is None or self.is_in_flight or self.over.is_set():
            return b""
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self.durable)
                chunk = file.read(MAX_CHUNK_BYTES)
        except FileNotFoundError:
            return b""
        self.is_in_flight = bool(chunk)
        return chunk


class LogStream:
    """Sends every followed spool; hands on what the coordinator pushes."""

    def __init__(
        self,
        uplink: Uplink,
        hello: StreamHello,
        timing: Timing,
        *,
        on_stop: Callable[[AttemptId, str], None],
        on_wake: Callable[[], None],
    ) -> None:
        self._uplink = uplink
        self._hello = hello
        self._timing = timing
        self._on_stop = on_stop
        self._on_wake = on_wake
        self._spools: dict[AttemptId, Spool] = {}
        self._stirred = asyncio.Event()
        self._fruitless = 0

    def follow(self, attempt: AttemptId, path: Path) -> Spool:
        spool = self._spools[attempt] = Spool(attempt, path)
        self._stirred.set()
        return spool

    def close(self, spool: Spool) -> None:
        spool.close()
        self._stirred.set()

    def forget(self, spool: Spool) -> None:
        self._spools.pop(spool.attempt, None)

    async def run(self) -> None:
        tries = 0
        while True:
            if self._fruitless >= FRUITLESS_TRIES:
                log.warning("no websocket can be had; logs go by plain HTTP", action="logs_over_http")
                await self._over_http()
                self._fruitless = 0
            elif await self._over_websocket():
                tries = 0
            await self._uplink.pause(self._uplink.delay(tries))
            tries += 1

    # By websocket

    async def _over_websocket(self) -> bool:
        """One connection from its opening to its end; True when the coordinator said anything on it."""
        url = self._uplink.server.replace("http", "ws", 1) + "/v1/worker/stream"
        was_heard = False
        try:
            async with connect(
                url,
                additional_headers=self._uplink.authorization(),
                proxy=None if self._uplink.is_loopback else True,
                compression=None,
                close_timeout=2,
            ) as socket:
                await socket.send(self._hello.model_dump_json())
                was_heard = await self._converse(socket)
        except ConnectionRefusedError:
            pass  # nobody there: that says nothing about websockets
        except (OSError, WebSocketException, Refused) as error:
            self._fruitless += 1
            if isinstance(error, InvalidStatus):
                log.info(f"websocket refused: {error}", action="stream_refused")
        if was_heard:
            self._fruitless = 0
        for spool in self._spools.values():
            spool.disconnect()
        return was_heard

    async def _converse(self, socket: ClientConnection) -> bool:
        was_heard = False
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(socket))
            with contextlib.suppress(WebSocketException):
                async for message in socket:
                    was_heard = True
                    self._receive(message)
            sending.cancel()
        if not was_heard and any(spool.is_asked for spool in self._spools.values()):
            self._fruitless += 1  # it opens, but nothing comes through
        return was_heard

    async def _send(self, socket: ClientConnection) -> None:
        with contextlib.suppress(WebSocketException):  # the receiving side sees the same end and returns
            while True:
                for spool in list(self._spools.values()):
                    if not spool.is_asked:
                        spool.is_asked = True
                        await socket.send(Ask(attempt=spool.attempt).model_dump_json())
                    elif chunk := spool.take_chunk():
                        await socket.send(data_frame(spool.attempt, spool.durable or 0, chunk))
                await self._rest(self._timing.log_poll)

    def _receive(self, message: str | bytes) -> None:
        try:
            word = to_agent.validate_json(message)
        except ValidationError:
            log.info("a word of the coordinator is not known here", action="stream_word_unknown")
            return
        match word:
            case Wake():
                self._on_wake()
            case Stop():
                self._on_stop(word.attempt, word.why)
            case Resume() | Ack() | Nack():
                if spool := self._spools.get(word.attempt):
                    self._heed(spool, word)
            case _:
                assert_never(word)

    def _heed(self, spool: Spool, word: Resume | Ack | Nack) -> None:
        if isinstance(word, Nack) and word.reason != "gap":
            self._give_up(spool, word.reason)
        else:
            spool.acknowledge(word.durable)
        self._stirred.set()

    # By PATCH

    async def _over_http(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timing.http_logs
        while loop.time() < until:
            for spool in list(self._spools.values()):
                try:
                    await self._patch(spool)
                except Unreachable:
                    spool.disconnect()
                    await self._uplink.pause(self._uplink.delay(3))
                except Refused as refusal:
                    self._on_refusal(spool, refusal)
            await self._rest(self._timing.http_poll)

    async def _patch(self, spool: Spool) -> None:
        if spool.durable is None:
            spool.acknowledge(await self._uplink.log_length(spool.attempt))
        while chunk := spool.take_chunk():
            spool.acknowledge(await self._uplink.append_log(spool.attempt, spool.durable or 0, chunk))

    def _on_refusal(self, spool: Spool, refusal: Refused) -> None:
        durable = refusal.durable()
        if refusal.problem.code == Code.LOG_GAP and durable is not None:
            spool.acknowledge(durable)
        elif is_recoverable(refusal):
            spool.disconnect()
        else:
            self._give_up(spool, str(refusal))

    # Both

    def _give_up(self, spool: Spool, why: str) -> None:
        log.warning(f"the rest of a log is not wanted: {why}", action="log_refused", attempt=spool.attempt)
        spool.over.set()

    async def _rest(self, seconds: float) -> None:
        """Wait for something to do: a word that came, or a spool that grew. An idle agent waits for ever."""
        open_spools = any(not spool.over.is_set() for spool in self._spools.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds if open_spools else None):
                await self._stirred.wait()
        self._stirred.clear()
