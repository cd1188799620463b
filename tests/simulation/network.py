"""What lies between an agent and the coordinator, and everything that goes wrong there.

A call is carried to the real application over ASGI. By a seeded draw its request is lost, cut, or comes late or
twice; its answer is lost after the application did its work, comes late, or is somebody else's. A caller that gives
up is noticed by the coordinator, or is not. Partitions cut one agent off, in one direction or both.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from tests.simulation.loop import VirtualLoop
from tests.simulation.sockets import End, Line

if TYPE_CHECKING:
    from tests.simulation.coordinator import Exchange, Site

CONNECT_SECONDS = 10.0
STRANGER = b"<html><title>Please log in to the hotel's network</title></html>"


class ConnectionLost(Exception):
    """The coordinator ended while it carried out a call."""


@dataclass(slots=True)
class Faults:
    """How often what goes wrong; `calm` ends it all."""

    luck: random.Random
    lost_request: float = 0.0
    lost_answer: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    cut_upload: float = 0.0
    flipped_bit: float = 0.0
    stranger: float = 0.0
    torn: float = 0.0
    """Of a websocket, with each piece that is sent."""
    unnoticed: float = 0.3
    """Of callers that give up, those whose end the coordinator does not see."""
    longest_delay: float = 100.0

    def calm(self) -> None:
        for name in (
            "lost_request",
            "lost_answer",
            "late",
            "twice",
            "cut_upload",
            "flipped_bit",
            "stranger",
            "torn",
        ):
            setattr(self, name, 0.0)

    def strikes(self, chance: float) -> bool:
        return chance > 0 and self.luck.random() < chance

    def latency(self) -> float:
        if self.strikes(self.late):
            return self.luck.uniform(0.1, self.longest_delay)
        return self.luck.uniform(0.0005, 0.05)


@dataclass(slots=True)
class Seen:
    """What went over the wires, for the verdict afterwards."""

    granted: set[str] = field(default_factory=set)
    """Attempts in claim answers that reached their agent."""
    beats: dict[str, list[float]] = field(default_factory=dict)
    """When the coordinator answered `continue` to an attempt's start or heartbeat, by the loop's time."""
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What the coordinator carried out, by verb and attempt (or claim)."""
    trace: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    sometimes: Counter[str] = field(default_factory=Counter)


class Wire(httpx.AsyncBaseTransport):
    """One agent's connection."""

    def __init__(self, site: Site, faults: Faults, seen: Seen, loop: VirtualLoop) -> None:
        self._site, self._faults, self._seen, self._loop = site, faults, seen, loop
        self.cut_out = False
        """Nothing reaches the coordinator."""
        self.cut_back = False
        """Nothing of what it answers comes back."""
        self.is_plain_only = False
        """A proxy on the way lets no websocket through."""
        self._lines: list[Line] = []
        self.is_dead = False
        """The agent's process is gone: nothing of it may speak any more."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert not self.is_dead, "a dead agent speaks"
        call = Call(request, await request.aread())
        seconds = request.extensions["timeout"]["read"]
        try:
            async with asyncio.timeout(seconds):
                response = await self._carry(call)
        except TimeoutError:
            self._give_up(call)
            raise httpx.ReadTimeout(f"no answer within {seconds:g} s", request=request) from None
        except asyncio.CancelledError:
            self._give_up(call)
            raise
        self._note_heard(call, response)
        return response

    async def dial(self, factory: Callable[[], Any]) -> tuple[End, Any]:
        """Open a websocket's connection. OSError: refused, silent, or not let through here."""
        if self.cut_out:
            await asyncio.sleep(CONNECT_SECONDS)
        if self.cut_out or self.is_plain_only or self._faults.strikes(self._faults.lost_request):
            raise OSError("no way there")
        await asyncio.sleep(self._faults.latency())
        line = Line(self._loop, self._faults.latency, lambda: self._faults.strikes(self._faults.torn))
        protocol = factory()
        client = self._site.accept(line, protocol)
        line.is_held = lambda receiver: self.cut_back if receiver is client else self.cut_out
        self._lines.append(line)
        self._seen.sometimes["websocket opened"] += 1
        return client, protocol

    def tear(self) -> None:
        """The agent is gone, and its websockets with it."""
        for line in self._lines:
            line.tear()
        self._lines.clear()

    async def _carry(self, call: Call) -> httpx.Response:
        faults = self._faults
        if self.cut_out:
            await asyncio.sleep(CONNECT_SECONDS)
            raise httpx.ConnectTimeout("no way there", request=call.request)
        if faults.strikes(faults.stranger):
            self._seen.sometimes["another's answer"] += 1
            return httpx.Response(200, content=STRANGER, request=call.request)
        if faults.strikes(faults.lost_request):
            self._seen.sometimes["request lost"] += 1
            await self._nothing_comes(call)
        travel = faults.latency()
        if faults.strikes(faults.twice):
            self._loop.call_later(faults.latency() + travel, self._again, call)
        # Once sent it arrives, whatever becomes of the sender meanwhile.
        arrival: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_later(travel, self._arrive, call, arrival)
        await asyncio.shield(arrival)
        if call.exchange is None:
            raise httpx.ConnectError("connection refused", request=call.request)
        try:
            response = await call.exchange.answered()
        except ConnectionLost:
            raise httpx.ReadError("connection reset", request=call.request) from None
        if faults.strikes(faults.lost_answer) or self.cut_back or call.is_cut:
            self._note_lost(call, response)
            await self._nothing_comes(call)
        await asyncio.sleep(faults.latency())
        return httpx.Response(
            response.status, headers=response.headers, content=response.body, request=call.request
        )

    def _arrive(self, call: Call, arrival: asyncio.Future[None]) -> None:
        if call.gave_up:
            self._seen.sometimes["request came after its caller gave up"] += 1
        body, call.is_cut = self._damaged(call)
        call.exchange = self._site.begin(call.request, body, is_cut=call.is_cut)
        if not arrival.done():
            arrival.set_result(None)

    def _again(self, call: Call) -> None:
        """The same request once more; nobody hears the answer, and the coordinator does not know that."""
        self._seen.sometimes["request came twice"] += 1
        self._site.begin(call.request, call.body)

    def _damaged(self, call: Call) -> tuple[bytes, bool]:
        if call.request.method != "PUT" or len(call.body) < 2:
            return call.body, False
        if self._faults.strikes(self._faults.cut_upload):
            return call.body[: self._faults.luck.randrange(1, len(call.body))], True
        if self._faults.strikes(self._faults.flipped_bit):
            at = self._faults.luck.randrange(len(call.body))
            return call.body[:at] + bytes([call.body[at] ^ 1]) + call.body[at + 1 :], False
        return call.body, False

    async def _nothing_comes(self, call: Call) -> None:
        """The connection breaks now, or is silent until its caller gives up."""
        if self._faults.luck.random() < 0.5:
            raise httpx.ReadError("connection reset", request=call.request)
        await self._loop.create_future()

    def _give_up(self, call: Call) -> None:
        call.gave_up = True
        if call.exchange is not None and not self._faults.strikes(self._faults.unnoticed):
            call.exchange.hang_up()

    def _note_heard(self, call: Call, response: httpx.Response) -> None:
        if call.path == "/v1/job/claim" and response.status_code == 200:
            with contextlib.suppress(ValueError):
                self._seen.granted.add(response.json()["attempt"])

    def _note_lost(self, call: Call, response: Answer) -> None:
        if response.status < 300:
            self._seen.sometimes[f"answer lost: {call.verb}"] += 1


@dataclass(slots=True)
class Call:
    request: httpx.Request
    body: bytes
    exchange: Exchange | None = None
    gave_up: bool = False
    is_cut: bool = False
    """The connection broke in the middle of the body."""

    @property
    def path(self) -> str:
        return self.request.url.path

    @property
    def verb(self) -> str:
        return verb_of(self.request.method, self.path)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def verb_of(method: str, path: str) -> str:
    """What a call is about, without ids: `claim`, `complete`, `PUT model`."""
    if method == "POST":
        return path.rpartition("/")[2]
    return f"{method} {path.split('/')[2]}"
