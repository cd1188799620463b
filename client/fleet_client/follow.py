"""Following a log over any number of connections, each byte once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from fleet_client.client import FleetClient
from fleet_client.errors import Unavailable, Unreachable
from fleet_protocol.logs import LogEnd, LogHole, LogStart

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an attempt's log from byte `offset` on."""

    attempt: str
    offset: int
    data: bytes


async def follow(
    fleet: FleetClient,
    ref: str,
    *,
    tail: int | None = None,
    attempt: str | None = None,
    on_break: Callable[[str], None] = lambda sentence: None,
) -> AsyncIterator[Piece | LogHole | LogEnd]:
    """The log's pieces, then its `LogEnd`. Once begun, a coordinator that goes away is waited for."""
    offset: int | None = None
    pause = FIRST_PAUSE_SECONDS
    while True:
        broke = "The coordinator went away."
        try:
            stream = fleet.follow_log(ref, offset=offset, tail=tail, attempt=attempt)
            async with aclosing(stream):
                async for message in stream:
                    if isinstance(message, LogEnd):
                        yield message
                        return
                    if isinstance(message, LogStart):
                        attempt, offset, tail = message.attempt, message.offset, None
                        continue
                    if isinstance(message, LogHole):
                        offset = message.offset + message.length
                        yield message
                        continue
                    yield Piece(attempt or "", offset or 0, message)
                    offset = (offset or 0) + len(message)
                    pause = FIRST_PAUSE_SECONDS
        except (Unreachable, Unavailable) as error:
            if offset is None:
                raise
            broke = str(error)
        on_break(f"{broke} Trying again in {pause:g} s.")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
