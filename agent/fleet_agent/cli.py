"""The command line: `fleet-agent run | enrol | doctor | uninstall`."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, get_type_hints

import structlog
import typer

from fleet_agent.console import speak_to_stderr
from fleet_agent.credential import Enrolment
from fleet_agent.daemon import run_agent, start_anew
from fleet_agent.doctor import diagnose
from fleet_agent.enrol import Wish, enrol, rehearse
from fleet_agent.errors import AgentError
from fleet_agent.install import installed
from fleet_agent.selftest import self_test
from fleet_agent.services import Kind, usual_kind
from fleet_agent.services.systemd import STATE as SYSTEM_STATE
from fleet_agent.settings import Settings, Timing
from fleet_agent.settings_file import default_file, load_settings
from fleet_agent.token_source import hide_token, join_token
from fleet_agent.uninstall import uninstall as remove_all
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


def command(
    function: Callable[[Settings], None], *, name: str | None = None, hidden: bool = False
) -> Callable[[Settings], None]:
    """A subcommand whose flags are the settings' fields; an AgentError ends it with a sentence."""

    def run(context: typer.Context, settings: Path | None, **options: object) -> None:
        with _told():
            function(_settings(context, options))

    _give_flags(run, {"context": (_REQUIRED, typer.Context)})
    app.command(name or function.__name__, help=function.__doc__, hidden=hidden)(run)
    return function


def _settings(context: typer.Context, options: dict[str, object]) -> Settings:
    """What was typed, set or written; an enrolled agent's name and coordinator where nothing was."""
    own = Enrolment.read(Path(str(options["state"])))
    for name in ("server", "name"):
        if own is not None and not _is_given(context, name) and name not in (context.default_map or {}):
            options[name] = getattr(own, name)
    if own is not None and options["allow_commands"] is None and options["server"] == own.server:
        options["allow_commands"] = False  # another account's coordinator, even at an address of this machine
    return Settings(**options)  # type: ignore[arg-type]  # typer made each of its field's type


def _is_given(context: typer.Context, name: str) -> bool:
    """By a flag, or by the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


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


_REQUIRED = inspect.Parameter.empty


def _give_flags(function: Callable[..., None], first: dict[str, tuple[object, object]]) -> None:
    """One keyword for each of `first`, for the settings file, and for each setting, with its default computed."""
    defaults, hints = Settings(), get_type_hints(Settings, include_extras=True)
    keywords = {
        name: (getattr(defaults, name), hints[name]) for name in inspect.signature(Settings).parameters
    }
    if "url" in first:
        del keywords["server"]
    every = first | {"settings": (None, File)} | keywords
    signature = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for name, (default, hint) in every.items()
        ]
    )
    function.__signature__ = signature  # type: ignore[attr-defined]  # how inspect is told
    function.__annotations__ = {name: hint for name, (_, hint) in every.items()}


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


def _self_test(settings: Settings) -> None:
    """What `enrol` runs where the service will run."""
    for line in asyncio.run(self_test(settings)):
        typer.echo(line)


command(_self_test, name="self-test", hidden=True)


def _enrol(
    context: typer.Context,
    url: str,
    service: Kind | None,
    dry_run: bool,
    settings: Path | None,
    **options: object,
) -> None:
    with _told():
        given, kind = join_token(options), service or usual_kind()
        if not _is_given(context, "state") and kind is Kind.SYSTEM and sys.platform == "linux":
            options["state"] = Path(SYSTEM_STATE)
        wanted = Settings(**(options | {"server": url.rstrip("/")}))  # type: ignore[arg-type]  # as in `_settings`
        wish = Wish(wanted, given, kind, _flags(context, options, settings))
        if dry_run:
            typer.echo("\n".join(rehearse(wish)))
            return
        asyncio.run(enrol(wish, lambda line: typer.echo(f"✓ {line}")))


_give_flags(
    _enrol,
    {
        "context": (_REQUIRED, typer.Context),
        "url": (_REQUIRED, Annotated[str, typer.Argument(help="The coordinator's address.")]),
        "token": (
            None,
            Annotated[
                str | None,
                typer.Option(
                    help="The join token. Out of sight: --token-file, or FLEET_JOIN_TOKEN.", metavar="fj1_…"
                ),
            ],
        ),
        "token_file": (
            None,
            Annotated[
                Path | None, typer.Option(help="File with the join token; `-` reads it from standard input.")
            ],
        ),
        "service": (
            None,
            Annotated[
                Kind | None,
                typer.Option(
                    help="Whose service it becomes; default system for root, else user. none: you start it."
                ),
            ],
        ),
        "dry_run": (
            False,
            Annotated[bool, typer.Option("--dry-run", help="Show every file and command, and do nothing.")],
        ),
    },
)
app.command(
    "enrol", help="Make this machine a worker: its own credential, a trial, a service that was heard."
)(_enrol)


def _flags(context: typer.Context, options: dict[str, object], file: Path | None) -> tuple[str, ...]:
    """What was typed, for the service to be started with."""
    words = (
        ["--settings", str(file.absolute())] if file is not None and _is_given(context, "settings") else []
    )
    for field in fields(Settings):
        if field.name in ("server", "state", "name") or not _is_given(context, field.name):
            continue
        flag, value = field.name.replace("_", "-"), options[field.name]
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value.absolute() if isinstance(value, Path) else value or "auto")]
    return tuple(words)


@command
def uninstall(settings: Settings) -> None:
    """Stop and remove the service, the credential and the state folder; keep results that were not handed in."""
    plans = list(installed())
    is_system = any(kind is Kind.SYSTEM for kind, _ in plans) and not (settings.state / "worker").exists()
    for line in remove_all(Path(SYSTEM_STATE) if is_system else settings.state, plans):
        typer.echo(line)


def main() -> None:
    hide_token()
    app(prog_name="fleet-agent" if sys.argv[0].endswith("__main__.py") else None)
