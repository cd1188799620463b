"""The list of `fleet`'s commands; what they do is in the modules beside this one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from fleet_client.cli import (
    access,
    artifacts,
    comparing,
    contexts,
    curves,
    demo,
    exporting,
    logs,
    manifest,
    orders,
    placing,
    pruning,
    reading,
    reporting,
)
from fleet_client.cli.completion import fleets
from fleet_client.cli.session import Url, sentences
from fleet_protocol.version import program_version

app = typer.Typer(
    name="fleet",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(reading.status)
app.command("list")(reading.list_jobs)
app.command()(reading.show)
app.command()(placing.explain)
app.command()(logs.logs)
app.command()(curves.metrics)
app.command()(comparing.compare)
app.command()(reporting.report)
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(exporting.app, name="export")
workers = typer.Typer(
    invoke_without_command=True, help="Every worker, and which jobs failed where; revoke one."
)
workers.callback()(placing.workers)
workers.command()(access.revoke)
app.add_typer(workers, name="workers")
app.command()(orders.cancel)
app.command()(orders.requeue)
app.command()(orders.accept_result)
app.command()(orders.drain)
app.command()(orders.resume)
app.command()(manifest.plan)
app.command()(manifest.reload)
app.command()(manifest.check)
app.command()(pruning.prune)
app.add_typer(access.join, name="join")
app.add_typer(access.token, name="token")
app.add_typer(contexts.app, name="context")
app.add_typer(contexts.config, name="config")
app.command()(demo.demo)


def say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleet {program_version()}")
        raise typer.Exit


@app.callback()
def fleet(
    given: typer.Context,
    url: Url = None,
    context: Annotated[
        str | None,
        typer.Option("--context", help="A fleet by its name: fleet context list.", autocompletion=fleets),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=say_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Train every job of one manifest once, across the machines you already own."""
    if context:
        if (source := given.get_parameter_source("url")) is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter("give either --url or --context")
        # A context is meant as a whole: another fleet's address or token would not go with it.
        os.environ["FLEET_CONTEXT"] = context
        for name in ("FLEET_URL", "FLEET_TOKEN"):
            os.environ.pop(name, None)
    elif url:
        os.environ["FLEET_URL"] = url  # before the command it means what it means behind it


def run(arguments: Sequence[str] | None) -> None:
    with sentences():
        app(args=arguments, prog_name="fleet")
