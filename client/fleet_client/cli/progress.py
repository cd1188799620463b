"""How far a transfer is, where somebody looks on: bars on standard error of a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleet_client.text import one_line

if TYPE_CHECKING:
    from fleet_client.pushing import Told


@contextmanager
def progress() -> Iterator[Callable[[str], Told]]:
    """Begins a bar for each name that it is given, and gives back whom to tell."""
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as shown:

        def begin(name: str) -> Told:
            task = shown.add_task(one_line(name), total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield begin
