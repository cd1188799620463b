"""`fleet context` and `fleet config`: which fleets there are, which one is meant, and who said so."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fleet_client import contexts
from fleet_client.cli.completion import fleets
from fleet_client.cli.output import emit, print_text, table
from fleet_client.cli.session import Json, Url, fail, note
from fleet_client.settings import checked_url, find_target

app = typer.Typer(no_args_is_help=True, help="Several fleets by name: list, use, add, remove.")
config = typer.Typer(no_args_is_help=True, help="What this program would use, and who said so.")
Name = Annotated[str, typer.Argument(help="The context's name.", autocompletion=fleets)]


@app.command("list")
def list_contexts(as_json: Json = False) -> None:
    """Show the fleets this account knows by name; never a token."""
    kept = contexts.read()
    rows = [
        {"name": name, "current": name == kept.context, "url": one.url, "token": _kind(one)}
        for name, one in kept.contexts.items()
    ]
    if as_json:
        print_text(json.dumps({"contexts": rows}, indent=2))
    elif rows:
        shown = [
            ["*" if row["current"] else "", *(str(row[key]) for key in ("name", "url", "token"))]
            for row in rows
        ]
        emit(table(["", "NAME", "URL", "TOKEN"], shown))
    else:
        note("fleet: no contexts yet. Add one: fleet context add NAME URL")


def _kind(one: contexts.Context) -> str:
    return one.token_file or ("kept here" if one.token else "looked for on this machine")


@app.command()
def use(name: Name) -> None:
    """Mean this fleet from now on wherever none is named."""
    kept = contexts.read()
    kept.named(name)
    contexts.write(replace(kept, context=name))
    note(f"fleet: {name} is used from now on")


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="The coordinator's address.")],
    *,
    token_file: Annotated[Path | None, typer.Option(help="Read the token from this file each time.")] = None,
) -> None:
    """Remember a fleet. Its token is asked for, or read from standard input: it never stands on a command line.

    The first one is used from now on.
    """
    kept = contexts.read()
    if not contexts.NAME.fullmatch(name):
        fail(f"{name!r} is no name: letters, digits, and - _ . between them.", code=2)
    if name in kept.contexts:
        fail(f"there is a context {name} already.", f"First: fleet context remove {name}")
    file = str(token_file.expanduser().absolute()) if token_file else None
    made = contexts.Context(checked_url(url), None if file else _asked_token(), file)
    made.read_token()
    current = kept.context or name
    contexts.write(contexts.Config(current, {**kept.contexts, name: made}))
    note(f"fleet: added {name}" + (", which is used from now on" if current == name else ""))


def _asked_token() -> str | None:
    if sys.stdin is not None and sys.stdin.isatty():
        from getpass import getpass

        typed = getpass("Token (nothing: it is found by itself on the coordinator's machine): ")
    else:
        typed = sys.stdin.readline() if sys.stdin is not None else ""
    token = typed.strip()
    if not (token.isascii() and token.isprintable()):
        fail("that is no token: they are plain ASCII.", code=2)
    return token or None


@app.command()
def remove(name: Name) -> None:
    """Forget a fleet and its token."""
    kept = contexts.read()
    kept.named(name)
    left = {one: context for one, context in kept.contexts.items() if one != name}
    contexts.write(contexts.Config(kept.context if kept.context in left else None, left))
    note(f"fleet: removed {name}")


@config.command()
def show(
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Also say where each value comes from.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the settings that hold here and now: flag, then environment, then file, then default."""
    target = find_target(url)
    token = "none" if target.token is None else "there is one"
    rows = [
        ("file", str(contexts.config_file()), "FLEET_CONFIG_DIR or the platform's folder"),
        ("context", target.context or "none", target.origin if target.context else ""),
        ("url", target.url, target.origin),
        ("token", token, target.token_origin),
    ]
    if as_json:
        print_text(
            json.dumps({name: {"value": value, "origin": said} for name, value, said in rows}, indent=2)
        )
    else:
        emit(table(["SETTING", "VALUE", *["ORIGIN"] * origin], [row if origin else row[:2] for row in rows]))
