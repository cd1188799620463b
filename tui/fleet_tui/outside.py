"""What leaves the dashboard: texts for the clipboard, and files for the operator's own editor and pager."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fleet_client.folding import Fold
from fleet_protocol.jobs import JobDetail
from fleet_protocol.workers import WorkerView
from fleet_tui.store import JobRow

CLIPBOARD_BYTES = 74_994
"""As base64, the most that terminals take in one sequence."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One thing to copy: the key that chooses it, what it is, and its text."""

    key: str
    what: str
    text: str


def copies(row: JobRow, detail: JobDetail | None) -> list[Copy]:
    """Of a job, the id first; only what there is."""
    job = row.job
    offered = [
        Copy("i", "id", job.job_id),
        Copy("n", "name", job.name),
        Copy("e", "error" if job.status == "failed" else "reason", row.reason),
        Copy("c", "command", f"fleet show {job.job_id}"),
        Copy("j", "JSON", (detail or job).model_dump_json(indent=2)),
    ]
    return [copy for copy in offered if copy.text]


def worker_copies(worker: WorkerView) -> list[Copy]:
    return [
        Copy("i", "id", worker.worker),
        Copy("n", "name", worker.name),
        Copy("j", "JSON", worker.model_dump_json(indent=2)),
    ]


def capped(text: str) -> tuple[str, bool]:
    """What of it the clipboard takes, and whether that is less than all."""
    data = text.encode("utf-8", "replace")
    return data[:CLIPBOARD_BYTES].decode("utf-8", "ignore"), len(data) > CLIPBOARD_BYTES


async def folded(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A log as lines that cannot drive a terminal."""
    fold = Fold()
    async for piece in pieces:
        yield "".join(f"{line}\n" for line in fold.feed(piece)).encode()
    yield "".join(f"{line}\n" for line in fold.finish()).encode()


def program(
    names: Sequence[str], otherwise: Sequence[str], environment: Mapping[str, str] = os.environ
) -> list[str] | str:
    """The command that the first of these variables names, else the first program at hand; or why there is none."""
    name = next((name for name in names if environment.get(name, "").strip()), None)
    if name is None:
        found = next((one for one in otherwise if shutil.which(one)), None)
        return [found] if found else f"{names[-1]} names no program, and there is no {' or '.join(otherwise)}"
    try:
        command = shlex.split(environment[name])
    except ValueError as error:
        return f"{name} is no command: {error}"
    return command if shutil.which(command[0]) else f"{name} names {command[0]}, which is not there"


def attended(command: Sequence[str], *, no_color: bool) -> str:
    """Let the operator use it until it ends; empty, or how it failed."""
    environment = os.environ | ({"NO_COLOR": "1"} if no_color else {})  # Textual took it away
    try:
        with undisturbed():
            code = subprocess.run(command, env=environment, check=False).returncode
    except OSError as error:
        return f"{command[0]} could not be started: {error}"
    return f"{command[0]} ended with {code}" if code else ""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C is for the program in front; unlike an ignored signal, a handled one is not handed down to it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def give_back() -> None:
    """To the system: what reading a large snapshot took for a moment. Of the libraries only glibc has to be told."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
