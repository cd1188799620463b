"""What every command shares: one connection, errors as sentences that say what to do, and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from fleet_client.cli.completion import completing_jobs, workers
from fleet_client.errors import (
    BadAddress,
    BadSettings,
    FleetError,
    NotAuthenticated,
    NotPermitted,
    Refused,
    Unreachable,
)
from fleet_client.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_client.client import FleetClient

T = TypeVar("T")

FAILED, USAGE, UNREACHABLE, CHANGES, INTERRUPTED = 1, 2, 3, 10, 130

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="FLEET_URL", help="The coordinator's address.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: the interface's own objects.")]
Job = Annotated[
    str,
    typer.Argument(
        help="Id, unique beginning of an id (4 characters or more), or exact name.",
        autocompletion=completing_jobs(),
    ),
]
Jobs = Annotated[
    list[str],
    typer.Argument(help="Ids, unique beginnings of ids, or exact names.", autocompletion=completing_jobs()),
]
Host = Annotated[
    str,
    typer.Argument(help="The worker's name, its id, or a unique beginning of that.", autocompletion=workers),
]


def ask(url: str | None, question: Callable[[FleetClient], Awaitable[T]]) -> T:
    """Runs `question` over one connection to the coordinator and returns its answer."""
    import asyncio

    from fleet_client.client import connect

    async def session() -> T:
        async with connect(url) as fleet:
            return await question(fleet)

    return asyncio.run(session())


def note(message: str) -> None:
    """A word to the person at the terminal; never part of the data."""
    typer.echo(message, err=True)


def fail(message: str, advice: str | None = None, *, code: int = FAILED) -> NoReturn:
    """Ends the program with a sentence and what to do about it."""
    note(f"fleet: {printable(message)}")
    if advice:
        note(f"       {printable(advice)}")
    raise SystemExit(code)


@contextmanager
def sentences() -> Iterator[None]:
    """No error and no key leaves a traceback behind."""
    if sys.stdout is None:
        fail("standard output is closed, so there is nowhere to write to.")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, not at the interpreter's end, which would complain of a broken pipe
    except FleetError as error:
        fail(described(error), advice(error), code=exit_code(error))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EINVAL):  # Windows says EINVAL for a pipe without a reader
            note(f"fleet: {error.strerror or error}" + (f": {error.filename}" if error.filename else "."))
        hush()
        raise SystemExit(FAILED) from None


def hush() -> None:
    """What stdout does not take is given up, so that the flush at the interpreter's end has nothing to complain of."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(error: FleetError) -> int:
    if isinstance(error, BadAddress | BadSettings):
        return USAGE
    return UNREACHABLE if isinstance(error, Unreachable) else FAILED


def described(error: FleetError) -> str:
    """The error's sentence, and below it every single thing that is wrong and not in the sentence already."""
    items = [
        item
        for item in (error.problem.errors if isinstance(error, Refused) else ())
        if item.message not in str(error)
    ]
    places = [(f"{item.file or ''}:{item.line}" if item.line else item.file or "", item) for item in items]
    lines = [": ".join(filter(None, (place, item.key, item.message))) for place, item in places]
    return "\n  ".join([str(error), *lines])


def advice(error: FleetError) -> str | None:
    if error.next:
        return f"Next: {error.next}"
    if isinstance(error, Unreachable):
        return "Start one with `fleet-server serve`, or name another with --url or FLEET_URL."
    if isinstance(error, NotAuthenticated):
        return (
            "Tokens are in the coordinator's data folder, tokens/operator and tokens/viewer. One of this account "
            "on this machine is found by itself; otherwise put it into FLEET_TOKEN."
        )
    if isinstance(error, NotPermitted):
        return "This needs the operator's token: tokens/operator in the data folder, given in FLEET_TOKEN."
    return None
