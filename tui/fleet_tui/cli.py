"""`fleet-tui`: looks before it leaps (a terminal, an address, a token), then opens the dashboard."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_protocol.version import program_version

if TYPE_CHECKING:
    from fleet_tui import transport
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
    where = made.add_mutually_exclusive_group()
    where.add_argument(
        "--url", help="the coordinator; else FLEET_URL, else the context in use, else this machine"
    )
    where.add_argument("--context", metavar="NAME", help="a fleet by its name: fleet context list")
    made.add_argument("--theme", metavar="NAME", help="dark, light, or one of Textual's")
    made.add_argument(
        "--ascii", action=argparse.BooleanOptionalAction, help="no character beyond ASCII is drawn"
    )
    made.add_argument("--slow", action="store_true", help="draw what arrives less than once a second")
    files = made.add_mutually_exclusive_group()
    files.add_argument("--record", metavar="FILE", help="also write what the coordinator says to FILE")
    files.add_argument("--replay", metavar="FILE", help="play such a file; no coordinator is needed")
    made.add_argument("--version", action="version", version=f"fleet-tui {program_version()}")
    return made


def run(options: argparse.Namespace) -> int:
    from textual.theme import BUILTIN_THEMES

    from fleet_client.errors import FleetError
    from fleet_tui.replay import BrokenRecording

    themes = ["dark", "light", *sorted(BUILTIN_THEMES)]
    if options.theme not in (None, *themes):
        return refuse(f"there is no theme {options.theme!r}, but: {', '.join(themes)}", 2)
    try:
        with ExitStack() as files:
            return show(opened(options, files), options)
    except FleetError as error:
        return refuse(f"{error} Next: {error.next}" if error.next else str(error), 2)
    except BrokenRecording as error:
        return refuse(str(error), 2)


def opened(options: argparse.Namespace, files: ExitStack) -> transport.Access:
    """What the dashboard shall look at. FleetError or BrokenRecording where there is nothing."""
    from fleet_tui.access import Access
    from fleet_tui.replay import BrokenRecording, Recording, Replay

    if options.replay:
        return Replay(Path(options.replay))
    access = Access(options.url, context=options.context)
    if not options.record:
        return access
    try:
        return Recording(access, files.enter_context(Path(options.record).open("x", encoding="utf-8")))
    except OSError as error:
        raise BrokenRecording(f"nothing can be recorded: {error}") from error


def show(access: transport.Access, options: argparse.Namespace) -> int:
    from fleet_client.contexts import read
    from fleet_tui import settings as kept
    from fleet_tui.access import Access
    from fleet_tui.app import FleetTui
    from fleet_tui.pace import pace

    file = kept.settings_file()
    before, trouble = kept.read(file)
    app = FleetTui(
        access,
        settings=chosen(before, options),
        pace=pace(slow=options.slow),
        contexts={name: partial(Access, context=name) for name in read().contexts}
        if isinstance(access, Access)  # a recording is of one fleet
        else {},
        context=access.context if isinstance(access, Access) else "",
    )
    app.run()
    if app.settings != before:
        try:
            kept.write(file, app.settings)
        except OSError as error:
            trouble = f"the settings could not be kept: {error}"
    if trouble:
        sys.stderr.write(f"fleet-tui: {trouble}\n")
    return refuse(app.refusal, 1) if app.refusal else app.return_code or 0


def chosen(before: Settings, options: argparse.Namespace) -> Settings:
    """What is remembered, with what was asked for today."""
    asked = {"theme": options.theme, "ascii": options.ascii}
    return replace(before, **{key: value for key, value in asked.items() if value is not None})


def refuse(sentence: str, code: int) -> int:
    sys.stderr.write(f"fleet-tui: {sentence}\n")
    return code
