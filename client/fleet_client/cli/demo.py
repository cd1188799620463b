"""`fleet demo`: everything on this machine, for real."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fleet_client.cli.session import FAILED, INTERRUPTED, note


def demo(
    *,
    directory: Annotated[Path, typer.Option("--dir", help="Where everything is kept.")] = Path(".fleet-demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run trained.")] = False,
    tui: Annotated[
        bool, typer.Option("--tui/--no-tui", help="The dashboard, or lines as things happen.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="The last table as JSON; implies --no-tui.")] = False,
) -> None:
    """Train the bundled jobs on this machine, for real, and show them live."""
    import asyncio

    from fleet_client.demo.folder import claimed
    from fleet_client.demo.programs import command
    from fleet_client.demo.show import check_installed, show
    from fleet_client.demo.summary import print_outcome, print_outcome_json

    dashboard = tui and not json and sys.stdin.isatty() and sys.stdout.isatty()
    write = note if json else typer.echo
    check_installed()
    with claimed(directory, fresh=fresh) as folder:
        try:
            outcome = asyncio.run(show(folder, dashboard=dashboard, write=write))
        except (KeyboardInterrupt, asyncio.CancelledError):
            again = f"{command('fleet')} demo --dir {shlex.quote(str(directory))}"
            note(f"Stopped; every program has ended. `{again}` goes on from here, with --fresh anew.")
            raise SystemExit(INTERRUPTED) from None
    (print_outcome_json if json else print_outcome)(folder, outcome)
    if outcome.surprises:
        raise SystemExit(FAILED)
