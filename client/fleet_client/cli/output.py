"""Tables for people and JSON for programs. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleet_client.text import one_line

if TYPE_CHECKING:
    from pydantic import BaseModel

UNBOUNDED = 10_000
SHORT = 8  # digits of an id that tell a fleet's jobs apart
NARROW = 100  # columns of a terminal; below, tables leave out what can be done without
STYLES = {
    "pending": "yellow",
    "claimed": "cyan",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "lost": "red",
    "released": "yellow",
    "new": "green",
    "changed": "cyan",
    "trained": "green",
    "removed": "magenta",
    "unsatisfiable": "red",
    "live": "green",
    "away": "red",
    "draining": "yellow",
}


def console() -> Console:
    """For stdout. Into a file or a pipe nothing is wrapped, cut or coloured."""
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False)
    return Console(highlight=False, markup=False, width=UNBOUNDED, color_system=None)


def emit(*renderables: Table | Text | str) -> None:
    """Each on stdout; into a file or a pipe without the spaces that fill up a table's last column."""
    out = console()
    if out.is_terminal:
        out.print(*renderables, sep="\n")
        return
    with out.capture() as captured:
        out.print(*renderables, sep="\n")
    print_text("\n".join(line.rstrip() for line in captured.get().splitlines()))


def heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def word(status: str) -> Text:
    """A status in its colour; the word itself says the same."""
    return Text(status, style=STYLES.get(status, ""))


def cell(value: Text | str | int) -> Text:
    return value if isinstance(value, Text) else Text(one_line(str(value)))


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Text | str | int]], *, fold: Sequence[str] = ()
) -> Table:
    """Borderless columns; where the terminal is too narrow those named in `fold` give way, and nothing is cut."""
    shown = any(heading.isupper() for heading in headings)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=shown)
    for heading in headings:
        drawn.add_column(heading, no_wrap=heading not in fold, overflow="fold")
    for row in rows:
        drawn.add_row(*map(cell, row))
    return drawn


def facts(pairs: Iterable[tuple[str, Text | str | int | None]]) -> Table:
    """Names and values below each other, those without a value left out."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            drawn.add_row(name, cell(value))
    return drawn


def print_json(model: BaseModel) -> None:
    """A wire object as it came, indented; ASCII only where stdout can carry nothing else."""
    print_text(model.model_dump_json(indent=2))


def print_text(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
