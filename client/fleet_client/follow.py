"""Reading and following a log over any number of connections, each byte once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from fleet_client.client import FleetClient, LogChunk
from fleet_client.errors import Unavailable, Unreachable
from fleet_protocol.logs import LogEnd, LogHole, LogStart, LogTime

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an attempt's log from byte `offset` on."""

    attempt: str
    offset: int
    data: bytes


async def read(
    fleet: FleetClient,
    ref: str,
    *,
    tail: int | None = None,
    since: str | None = None,
    attempt: str | None = None,
) -> AsyncIterator[Piece | LogHole]:
    """What is there, answer by answer; what is appended meanwhile is left to `follow`."""
    from_start = None if tail is not None or since is not None else 0
    chunk = await fleet.read_log(ref, offset=from_start, tail=tail, since=since, attempt=attempt)
    end = chunk.length
    while chunk.data:
        for piece in pieces(chunk):
            yield piece
        if chunk.end >= end:
            return
        chunk = await fleet.read_log(ref, offset=chunk.end, attempt=chunk.attempt or attempt)


def pieces(chunk: LogChunk) -> Iterator[Piece | LogHole]:
    """An answer's bytes, and its holes in the place of their zeros."""
    why: Literal["lost", "expired"] = "expired" if chunk.state == "expired" else "lost"
    at, end = chunk.offset, chunk.offset + len(chunk.data)
    for start, behind in chunk.holes:
        if start > at:
            yield Piece(chunk.attempt, at, chunk.data[at - chunk.offset : start - chunk.offset])
        at = max(at, start)
        yield LogHole(offset=at, length=behind - at, why=why)
        at = behind
    if at < end:
        yield Piece(chunk.attempt, at, chunk.data[at - chunk.offset :])


async def follow(
    fleet: FleetClient,
    ref: str,
    *,
    tail: int | None = None,
    since: str | None = None,
    attempt: str | None = None,
    on_break: Callable[[str], None] = lambda sentence: None,
) -> AsyncIterator[Piece | LogHole | LogEnd]:
    """The log's pieces, then its `LogEnd`. Once begun, a coordinator that goes away is waited for."""
    offset: int | None = None
    pause = FIRST_PAUSE_SECONDS
    while True:
        broke = "The coordinator went away."
        try:
            stream = fleet.follow_log(ref, offset=offset, tail=tail, since=since, attempt=attempt)
            async with aclosing(stream):
                async for message in stream:
                    if isinstance(message, LogEnd):
                        yield message
                        return
                    if isinstance(message, LogStart):
                        attempt, offset = message.attempt, message.offset
                        tail = since = None
                        continue
                    if isinstance(message, LogHole):
                        offset = message.offset + message.length
                        yield message
                        continue
                    if isinstance(message, LogTime):
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
