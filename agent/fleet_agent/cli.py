"""The command line: `fleet-agent run` and `fleet-agent doctor`."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_type_hints

import structlog
import typer

from fleet_agent.console import speak_to_stderr
from fleet_agent.daemon import run_agent, start_anew
from fleet_agent.doctor import diagnose
from fleet_agent.errors import AgentError
from fleet_agent.settings import Settings, Timing
from fleet_agent.settings_file import default_file, load_settings
from fleet_protocol.version import program_version

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleet-agent {program_version()}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Runs this machine's share of a fleet's training jobs."""


def command(function: Callable[[Settings], None]) -> Callable[[Settings], None]:
    """A subcommand whose flags are the settings' fields; an AgentError ends it with a sentence."""

    def run(settings: Path | None, **options: object) -> None:
        with _told():
            function(Settings(**options))  # type: ignore[arg-type]  # typer made each of its field's type

    run.__signature__ = signature = _signature()  # type: ignore[attr-defined]  # how inspect is told
    run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    app.command(function.__name__, help=function.__doc__)(run)
    return function


@contextmanager
def _told() -> Iterator[None]:
    """An AgentError ends the program with its sentence."""
    try:
        yield
    except AgentError as error:
        typer.echo(f"fleet-agent: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


def _read_file(context: typer.Context, path: Path | None) -> Path | None:
    """Make what the settings file says the flags' defaults, before they are looked at."""
    if (file := path or default_file()) is not None:
        with _told():
            context.default_map = {**load_settings(file)}
    return file


File = Annotated[
    Path | None,
    typer.Option(
        envvar="FLEET_AGENT_SETTINGS",
        is_eager=True,
        callback=_read_file,
        help="Settings file; default /etc/fleet/agent.toml where there is one, else the account's own.",
    ),
]


def _signature() -> inspect.Signature:
    """One keyword for each setting, with its default computed, and the file that they may stand in."""
    defaults, hints = Settings(), get_type_hints(Settings, include_extras=True)
    keywords = {
        name: (getattr(defaults, name), hints[name]) for name in inspect.signature(Settings).parameters
    }
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for name, (default, hint) in ({"settings": (None, File)} | keywords).items()
        ]
    )


@command
def run(settings: Settings) -> None:
    """Claim jobs, train them, and hand in what comes of it, until told to stop."""
    speak_to_stderr()
    try:
        is_succeeded = asyncio.run(run_agent(settings, Timing()))
    except AgentError:
        raise
    except Exception as error:  # noqa: BLE001 - outermost: trainers live on, and a restart takes them up again
        structlog.get_logger().error("the agent failed", action="agent_failed", exc_info=error)
        raise AgentError("this is a defect of fleet-agent; start it again, running jobs go on.") from None
    if is_succeeded:
        start_anew()


@command
def doctor(settings: Settings) -> None:
    """Show what this machine would advertise, and what is wrong with it."""
    diagnosis = asyncio.run(diagnose(settings))
    for line in diagnosis.lines:
        typer.echo(line)
    if diagnosis.error is not None:
        raise diagnosis.error


def main() -> None:
    app(prog_name="fleet-agent" if sys.argv[0].endswith("__main__.py") else None)
