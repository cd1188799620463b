"""`fleet-server serve | migrate | backup | restore | verify | install`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from fleet_protocol.version import program_version

if TYPE_CHECKING:
    from fleet_server.settings import Settings

app = typer.Typer(
    name="fleet-server",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path | None, typer.Option(help="Folder of the database, logs, artifacts and tokens.")]
Database = Annotated[str | None, typer.Option(help="Database URL; SQLite in the data folder if not given.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleet-server {program_version()}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """The coordinator of a fleet."""


def main() -> None:
    app()


def _fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"fleet-server: {message}", err=True)
    raise typer.Exit(code)


@app.command()
def serve(  # noqa: PLR0913 - a program's flags are its parameters here
    host: Annotated[str | None, typer.Option(help="Address to listen on; loopback only.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Where others reach it: https://HOST of a proxy on this machine.")
    ] = None,
    data: Data = None,
    manifest: Annotated[Path | None, typer.Option(help="Manifest to load at start.")] = None,
    database_url: Database = None,
    stale_after: Annotated[
        float | None, typer.Option(help="Lease: seconds an attempt may go unheard.")
    ] = None,
    heartbeat: Annotated[
        float | None, typer.Option(help="Seconds between heartbeats that agents are told.")
    ] = None,
    sweep: Annotated[float | None, typer.Option(help="Seconds between looks for lost leases.")] = None,
    live_after: Annotated[
        float | None, typer.Option(help="Seconds after which a silent worker is not live.")
    ] = None,
    backoff: Annotated[
        float | None, typer.Option(help="Seconds before the second attempt after an error.")
    ] = None,
    on_failure: Annotated[
        str | None,
        typer.Option(help="Command to run for each job that fails for good, quoted as for a shell."),
    ] = None,
) -> None:
    """Run the coordinator until SIGTERM or Ctrl-C."""
    from fleet_server.serve import run

    given = {name: value for name, value in locals().items() if value is not None and name != "run"}
    if on_failure is not None:
        given["on_failure"] = _split(on_failure)
    run(_settings(given), _fail)


@app.command()
def migrate(data: Data = None, database_url: Database = None) -> None:
    """Bring the database to this version's schema."""
    from sqlalchemy.exc import ArgumentError

    from fleet_server.schema import SchemaError
    from fleet_server.schema import migrate as upgrade

    settings = _of(data, database_url)
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        revision = upgrade(settings.url)
    except SchemaError as error:
        _fail(str(error))
    except ArgumentError as error:
        _fail(f"--database-url cannot be used: {error}")
    except OSError as error:
        _fail(
            f"cannot use {error.filename or settings.data}: {error.strerror}; give another folder with --data"
        )
    typer.echo(f"fleet-server: the database is at revision {revision}")


File = Annotated[Path | None, typer.Argument(help="The backup.")]


@app.command()
def backup(file: File = None, data: Data = None, database_url: Database = None) -> None:
    """Copy the database while the coordinator runs; any program can copy artifacts and logs afterwards."""
    from fleet_server.backup import back_up

    settings = _of(data, database_url)
    with _told():
        made = back_up(settings.url, settings.data, file, datetime.now(UTC))
        typer.echo(f"fleet-server: {made} ({made.stat().st_size:,} bytes), whole and checked")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    data: Data = None,
    database_url: Database = None,
) -> None:
    """Put a backup in the database's place, and what was there aside; the coordinator has to be stopped."""
    from fleet_server.backup import restore as put_back

    settings = _of(data, database_url)
    with _told():
        aside = put_back(file, settings.url, settings.data, datetime.now(UTC))
        typer.echo(f"fleet-server: {file} is the database now; the one before is {aside or 'none'}")
    _verify(file, settings, digests=False)


@app.command()
def verify(
    file: File = None,
    data: Data = None,
    database_url: Database = None,
    digests: Annotated[bool, typer.Option("--digests", help="Read every byte of every file.")] = False,
) -> None:
    """Check the database, or a backup of it, and that its artifacts and blobs are there and whole."""
    _verify(file, _of(data, database_url), digests=digests)


@app.command()
def install(
    flags: Annotated[
        list[str] | None, typer.Argument(help="Flags of `serve`, behind `--`.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the unit and the commands.")] = False,
) -> None:
    """Make the coordinator a systemd service with its own account, and start it."""
    from fleet_server.install import NotInstalled
    from fleet_server.install import install as make_service

    try:
        make_service(flags or (), dry_run=dry_run)
    except NotInstalled as error:
        _fail(str(error))


def _verify(file: Path | None, settings: Settings, *, digests: bool) -> None:
    from fleet_server.backup import database_file
    from fleet_server.backup import verify as look

    with _told():
        found = look(file or database_file(settings.url), settings.data, digests=digests)
    for sentence in found.wrong:
        typer.echo(sentence)
    how = "their digests" if digests else "their sizes"
    typer.echo(
        f"fleet-server: {found.jobs} jobs, {found.files} artifacts and blobs, {len(found.wrong)} of them wrong by {how}"
    )
    if found.wrong:
        raise typer.Exit(1)


def _of(data: Path | None, database_url: str | None) -> Settings:
    given = {"data": data, "database_url": database_url}
    return _settings({name: value for name, value in given.items() if value is not None})


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong, in a sentence."""
    from fleet_server.activity import FolderInUse
    from fleet_server.backup import Unsound
    from fleet_server.schema import SchemaError

    try:
        yield
    except (Unsound, SchemaError, FolderInUse) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'the disk'}: {error.strerror}")


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        _fail(f"--on-failure cannot be read: {error}", 2)


def _settings(given: dict[str, Any]) -> Settings:
    from pydantic_settings import SettingsError

    from fleet_server.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in error.errors(include_url=False))
        _fail(problems.replace("_", "-"), 2)
    except SettingsError:
        _fail(
            'FLEET_SERVER_ON_FAILURE is a JSON list of a command\'s arguments, such as ["notify", "lab"]', 2
        )
