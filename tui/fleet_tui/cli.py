"""`fleet-tui`: looks before it leaps (a terminal, an address, a token), then opens the dashboard."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fleet_protocol.version import DEFAULT_URL, program_version

if TYPE_CHECKING:
    from fleet_tui.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return refuse("fleet-tui draws on a terminal, and this is none. For scripts: fleet status --json", 2)
    if os.environ.get("TERM") in ("dumb", "unknown"):
        return refuse("this terminal cannot place a cursor (TERM). For plain text: fleet status", 2)
    return run(options)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="fleet-tui",
        description="Jobs, failures, workers and logs of a fleet, live. Press ? inside for the keys.",
        epilog="The token is found by itself on the coordinator's machine; elsewhere set FLEET_TOKEN. "
        "Theme, --ascii, view and order are remembered.",
    )
    made.add_argument(
        "--url", default=os.environ.get("FLEET_URL") or DEFAULT_URL, help="the coordinator (%(default)s)"
    )
    made.add_argument("--theme", metavar="NAME", help="dark, light, or one of Textual's")
    made.add_argument(
        "--ascii", action=argparse.BooleanOptionalAction, help="no character beyond ASCII is drawn"
    )
    made.add_argument("--slow", action="store_true", help="draw what arrives once a second")
    made.add_argument("--version", action="version", version=f"fleet-tui {program_version()}")
    return made


def run(options: argparse.Namespace) -> int:
    from textual.theme import BUILTIN_THEMES

    from fleet_client.errors import BadAddress
    from fleet_tui import settings as kept
    from fleet_tui.access import Access
    from fleet_tui.app import FleetTui
    from fleet_tui.pace import pace

    themes = ["dark", "light", *sorted(BUILTIN_THEMES)]
    if options.theme not in (None, *themes):
        return refuse(f"there is no theme {options.theme!r}, but: {', '.join(themes)}", 2)
    file = kept.settings_file()
    before, ignored = kept.read(file)
    try:
        app = FleetTui(Access(options.url), settings=chosen(before, options), pace=pace(slow=options.slow))
    except BadAddress as error:
        return refuse(f"{error} Next: {error.next}" if error.next else str(error), 2)
    app.run()
    if app.settings != before:
        try:
            kept.write(file, app.settings)
        except OSError as error:
            ignored = f"the settings could not be kept: {error}"
    if ignored:
        sys.stderr.write(f"fleet-tui: {ignored}\n")
    return refuse(app.refusal, 1) if app.refusal else app.return_code or 0


def chosen(before: Settings, options: argparse.Namespace) -> Settings:
    """What is remembered, with what was asked for today."""
    asked = {"theme": options.theme, "ascii": options.ascii}
    return replace(before, **{key: value for key, value in asked.items() if value is not None})


def refuse(sentence: str, code: int) -> int:
    sys.stderr.write(f"fleet-tui: {sentence}\n")
    return code
