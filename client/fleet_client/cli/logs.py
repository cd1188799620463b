"""`fleet logs`: a job's output, whole or its end, once or as it grows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from fleet_client.cli.output import print_text
from fleet_client.cli.session import Job, Json, Url, ask, note
from fleet_client.text import coloured

if TYPE_CHECKING:
    from fleet_client.client import FleetClient


def logs(
    job: Job,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt is over.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last N lines.")] = None,
    attempt: Annotated[UUID | None, typer.Option(help="An attempt's id; the newest without it.")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """What a job printed. With --json one object a line: {"attempt", "offset", "text"}."""

    named = str(attempt) if attempt else None

    async def question(fleet: FleetClient) -> None:
        await (followed if follow else read)(fleet, job, tail=tail, attempt=named, json=json)

    ask(url, question)


async def read(fleet: FleetClient, job: str, *, tail: int | None, attempt: str | None, json: bool) -> None:
    """Everything that is there, answer by answer; what is appended meanwhile is left to --follow."""
    chunk = await fleet.read_log(job, offset=0 if tail is None else None, tail=tail, attempt=attempt)
    emit(chunk.attempt, chunk.offset, chunk.data, json=json)
    end = chunk.length
    while chunk.data and chunk.end < end:
        chunk = await fleet.read_log(job, offset=chunk.end, attempt=chunk.attempt or attempt)
        emit(chunk.attempt, chunk.offset, chunk.data, json=json)


async def followed(
    fleet: FleetClient, job: str, *, tail: int | None, attempt: str | None, json: bool
) -> None:
    from fleet_client.follow import follow
    from fleet_protocol.logs import LogEnd, LogHole

    async for piece in follow(fleet, job, tail=tail, attempt=attempt, on_break=note):
        if isinstance(piece, LogEnd):
            note(f"attempt {piece.status} after {piece.length} bytes")
        elif isinstance(piece, LogHole):
            note(f"{piece.length} bytes from offset {piece.offset} on were lost before they could be sent")
        else:
            emit(piece.attempt, piece.offset, piece.data, json=json)


def emit(attempt: str, offset: int, data: bytes, *, json: bool) -> None:
    """To a terminal only text and colours; into a file or a pipe the very bytes."""
    if json:
        import json as codec

        line = {"attempt": attempt, "offset": offset, "text": data.decode(errors="replace")}
        print_text(codec.dumps(line))
    else:
        sys.stdout.buffer.write(coloured(data) if sys.stdout.isatty() else data)
    sys.stdout.flush()
