"""`fleet logs`: a job's output, whole or its end, once or as it grows."""

from __future__ import annotations

import json as codec
import re
import shutil
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from fleet_client.cli.output import print_text
from fleet_client.cli.session import Job, Json, Url, ask, note
from fleet_client.folding import HELD_LINES, Fold, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_client.client import FleetClient
    from fleet_client.follow import Piece
    from fleet_protocol.logs import LogHole

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since_text(given: str) -> str:
    """`10m`, `1.5h`, or a time as RFC 3339 (this machine's zone where it names none), as the interface takes it."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", given):
        return f"{float(found[1]) * UNITS[found[2]]:f}"
    try:
        return datetime.fromisoformat(given).astimezone().isoformat()
    except (ValueError, OverflowError, OSError):  # OSError: a year that this machine's calendar does not have
        raise typer.BadParameter(
            f"{given!r} is neither a span like 30s, 10m, 2h or 1d nor a time like 2026-03-01T12:00:00Z."
        ) from None


def logs(
    job: Job,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt is over.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last N lines.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what came since then: 30s, 10m, 2h, 1d, or a time as RFC 3339.")
    ] = None,
    attempt: Annotated[UUID | None, typer.Option(help="An attempt's id; the newest without it.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The very bytes: no progress bar folded, nothing made harmless.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """What a job printed. With --json one object a line: {"attempt", "offset", "text"}."""
    if tail is not None and since is not None:
        raise typer.BadParameter("give --tail or --since, not both.")
    when = since_text(since) if since else None
    sink = JsonSink() if json else RawSink() if raw else LineSink(follow=follow)

    async def question(fleet: FleetClient) -> None:
        from fleet_client import follow as reading
        from fleet_protocol.logs import LogEnd

        wanted = {"since": when, "attempt": str(attempt) if attempt else None}
        if follow:
            found = reading.follow(fleet, job, tail=tail, **wanted, on_break=note)
        else:
            found = reading.read(fleet, job, tail=tail, **wanted)
        async for piece in found:
            if isinstance(piece, LogEnd):
                sink.finish()
                note(f"attempt {piece.status} after {piece.length} bytes")
            else:
                sink.put(piece)
            sys.stdout.flush()
        sink.finish()

    ask(url, question)


class JsonSink:
    def put(self, piece: Piece | LogHole) -> None:
        from fleet_client.follow import Piece

        if isinstance(piece, Piece):
            text = piece.data.decode(errors="replace")
            print_text(codec.dumps({"attempt": piece.attempt, "offset": piece.offset, "text": text}))
        else:
            print_text(codec.dumps({"offset": piece.offset, "missing": piece.length, "why": piece.why}))

    def finish(self) -> None:
        pass


class RawSink:
    def put(self, piece: Piece | LogHole) -> None:
        from fleet_client.follow import Piece

        if isinstance(piece, Piece):
            sys.stdout.buffer.write(piece.data)
        else:
            note(missing(piece))

    def finish(self) -> None:
        pass


class LineSink:
    """Folded lines. On a terminal that follows, the lines that are still being redrawn are shown and redrawn too."""

    def __init__(self, *, follow: bool) -> None:
        self._is_live = follow and sys.stdout.isatty()
        self._fold = Fold(0 if follow else HELD_LINES, colours=sys.stdout.isatty())
        self._shown = 0

    def put(self, piece: Piece | LogHole) -> None:
        from fleet_client.follow import Piece

        if isinstance(piece, Piece):
            self._print(self._fold.feed(piece.data), self._fold.pending if self._is_live else [])
        else:
            self._print([*self._fold.finish(), missing(piece)], [])

    def finish(self) -> None:
        self._print(self._fold.finish(), [])

    def _print(self, settled: Sequence[str], pending: Sequence[str]) -> None:
        end = "\x1b[0m\n" if sys.stdout.isatty() else "\n"
        text = "".join(line + (end if "\x1b" in line else "\n") for line in settled)
        if self._is_live:
            up = f"\x1b[{self._shown - 1}A" if self._shown > 1 else ""
            text = f"{up}\r\x1b[J" * (self._shown > 0) + text + "\n".join(map(_narrow, pending))
            self._shown = len(pending)
        sys.stdout.buffer.write(text.encode(errors="replace"))


def _narrow(line: str) -> str:
    """What fits one line of the terminal: a line that wraps could not be drawn over again."""
    from rich.text import Text

    text = Text.from_ansi(line)
    text.truncate(shutil.get_terminal_size().columns - 1)
    return text.plain
