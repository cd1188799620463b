"""What is stored on the coordinator and nothing refers to."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_client.cli.output import emit, print_json, table
from fleet_client.cli.session import Json, Url, ask
from fleet_client.text import counted, size


def prune(
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete it. Without this it is only shown.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Show, or delete, what is stored and nothing refers to.

    Data sets, sources, checkpoints, artifacts and logs of jobs that are over and need them no more.
    """
    answer = ask(url, lambda fleet: fleet.prune(dry_run=not yes))
    if json:
        print_json(answer)
        return
    if answer.items:
        rows = [(item.kind, item.id, size(item.size_bytes)) for item in answer.items]
        emit(table(("KIND", "ID", "SIZE"), rows))
    what = f"{counted(len(answer.items), 'thing')}, {size(answer.size_bytes)}"
    if not answer.items:
        emit("Nothing is stored that nothing refers to.")
    elif yes:
        emit(f"{what}: deleted.")
    else:
        emit(f"{what}, would be deleted by: fleet prune --yes")
