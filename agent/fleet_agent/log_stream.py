"""Carries what trainers print to the coordinator while they print it.

One websocket for all attempts, one piece in flight per attempt; the coordinator dictates from where a log goes
on, so that any reconnect, restart or change of transport is the same question: what have you got? Where no
websocket can be had, `LogPatch` carries on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import assert_never

import structlog
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from fleet_agent.log_patch import LogPatch
from fleet_agent.settings import Timing
from fleet_agent.spool import Spool
from fleet_agent.spools import Spools
from fleet_agent.uplink import Refused, Uplink
from fleet_protocol.ids import AttemptId
from fleet_protocol.logs import (
    Ack,
    Ask,
    GaugesWord,
    Hole,
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
FULL_SECONDS = 5.0
"""Until a coordinator without room is offered the same again."""


class LogStream:
    """Sends every followed spool; hands on what the coordinator pushes."""

    def __init__(
        self,
        uplink: Uplink,
        hello: StreamHello,
        timing: Timing,
        spools: Spools,
        *,
        on_stop: Callable[[AttemptId, str], None],
        on_wake: Callable[[], None],
    ) -> None:
        self._uplink = uplink
        self._hello = hello
        self._spools = spools
        self._patch = LogPatch(uplink, spools, timing)
        self._on_stop = on_stop
        self._on_wake = on_wake
        self._socket: ClientConnection | None = None
        self._fruitless = 0

    async def say(self, word: GaugesWord) -> None:
        """Worth telling only while there is somebody to hear it."""
        if self._socket is not None:
            with contextlib.suppress(WebSocketException):
                await self._socket.send(word.model_dump_json())

    async def run(self) -> None:
        tries = 0
        while True:
            if self._fruitless >= FRUITLESS_TRIES:
                log.warning("no websocket can be had; logs go by plain HTTP", action="logs_over_http")
                await self._patch.run()
                self._fruitless = 0
            elif await self._connected():
                tries = 0
            await self._uplink.pause(self._uplink.delay(tries))
            tries += 1

    async def _connected(self) -> bool:
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
                self._socket = socket
                was_heard = await self._converse(socket)
        except ConnectionRefusedError:
            pass  # nobody there: that says nothing about websockets
        except (OSError, WebSocketException, Refused) as error:
            self._fruitless += 1
            if isinstance(error, InvalidStatus):
                log.info(f"websocket refused: {error}", action="stream_refused")
        finally:
            self._socket = None
        if was_heard:
            self._fruitless = 0
        self._spools.disconnect()
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
        if not was_heard and self._spools.is_any_asked:
            self._fruitless += 1  # it opens, but nothing comes through
        return was_heard

    async def _send(self, socket: ClientConnection) -> None:
        with contextlib.suppress(WebSocketException):  # the receiving side sees the same end and returns
            while True:
                spool = await self._spools.next()
                if not spool.is_asked:
                    spool.is_asked = True
                    await socket.send(Ask(attempt=spool.attempt).model_dump_json())
                elif piece := spool.take():
                    await socket.send(
                        piece.model_dump_json()
                        if isinstance(piece, Hole)
                        else data_frame(spool.attempt, spool.durable or 0, piece)
                    )

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
        if isinstance(word, Nack) and word.reason == "full":
            again = Resume(attempt=word.attempt, durable=word.durable)
            asyncio.get_running_loop().call_later(FULL_SECONDS, self._heed, spool, again)
        elif isinstance(word, Nack) and word.reason != "gap":
            self._spools.give_up(spool, word.reason)
        else:
            self._spools.acknowledge(spool, word.durable)
