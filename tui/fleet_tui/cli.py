"""`fleet-tui`: looks before it leaps (a terminal, an address, a token), then opens the dashboard."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from fleet_protocol.version import DEFAULT_URL, program_version


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fleet-tui",
        description="Jobs, failures, workers and logs of a fleet, live. Press ? inside for the keys.",
        epilog="The token is found by itself on the coordinator's machine; elsewhere set FLEET_TOKEN.",
    )
    parser.add_argument(
        "--url", default=os.environ.get("FLEET_URL") or DEFAULT_URL, help="the coordinator (%(default)s)"
    )
    parser.add_argument("--version", action="version", version=f"fleet-tui {program_version()}")
    url: str = parser.parse_args(arguments).url
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return refuse("fleet-tui draws on a terminal, and this is none. For scripts: fleet status --json", 2)
    return run(url)


def run(url: str) -> int:
    from fleet_client.errors import BadAddress
    from fleet_tui.access import Access
    from fleet_tui.app import FleetTui

    try:
        app = FleetTui(Access(url))
    except BadAddress as error:
        return refuse(f"{error} Next: {error.next}" if error.next else str(error), 2)
    app.run()
    return refuse(app.refusal, 1) if app.refusal else app.return_code or 0


def refuse(sentence: str, code: int) -> int:
    sys.stderr.write(f"fleet-tui: {sentence}\n")
    return code
