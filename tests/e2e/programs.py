"""fleet's real programs as child processes, each with its output in a file; whoever starts one ends it by its id."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")
LIMIT_SECONDS = 60.0
LOOK_SECONDS = 0.02
END_SECONDS = 30.0
GONE_SECONDS = 5.0  # for a process whose last act is still under way


class Waited(AssertionError):
    """What a test waited for did not come; the message has the last words of every program."""


@dataclass
class Program:
    name: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for it: its exit code."""
        if self.is_running:
            self.process.send_signal(number)
        return self.process.wait(END_SECONDS)


def start(name: str, module: Sequence[str], folder: Path, more: Mapping[str, str] | None = None) -> Program:
    """`python -m MODULE`, knowing of no fleet but the one in `folder`; `more` is added to its environment."""
    output = folder / f"{len(list(folder.glob('*.out')))}-{name}.out"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(folder) | dict(more or {}),
            cwd=folder,
            start_new_session=True,
        )
    return Program(name, process, output)


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # dozens of starts: compiling anew each time takes half of all
    return kept | {"FLEET_STATE_DIR": str(folder / "notes"), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def until(
    condition: Callable[[], T], programs: Sequence[Program] = (), *, what: str, seconds: float = LIMIT_SECONDS
) -> T:
    """The first truthy value of `condition`; Waited, with what the programs said, when none comes."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            words = "\n".join(f"--- {one.name}: {one.said()[-3000:]}" for one in programs)
            raise Waited(f"{what} did not come within {seconds:g} s\n{words}")
        time.sleep(LOOK_SECONDS)
    return value


def living_in(folder: Path) -> list[psutil.Process]:
    """Every process that has `folder` in its command line, its environment or as its place; never ourselves."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [one for one in psutil.process_iter() if one.pid not in ours and _names(one, str(folder))]


def left_behind(folder: Path) -> list[str]:
    """The command lines of what still lives in `folder` when all should be over; it is killed."""
    with contextlib.suppress(Waited):
        until(lambda: not living_in(folder), what="an empty folder", seconds=GONE_SECONDS)
    found = living_in(folder)
    described = []
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            described.append(shlex.join(process.cmdline()))
            process.kill()
    return described


def _names(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        told = [*process.cmdline(), *process.environ().values(), process.cwd()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return any(folder in text for text in told)
