"""The `fleet` command line. The list of commands is in `commands`; what they do is in the modules beside it."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process: 0 ok, 1 refused or failed, 2 wrong usage, 3 no coordinator."""
    try:  # loading takes as long as some commands, and Ctrl-C shall be as quiet then
        from fleet_client.cli.commands import run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run(arguments)
