"""A page of the documentation as a script: what a reader would save, type, and leave running.

A comment before a block says how it is meant; a block of `sh` without one is typed and has to succeed.

    <!-- file NAME -->           it is saved as NAME; `NAME: more` is added at its end
    <!-- stays: WORDS -->        it goes on running in a terminal of its own, ready once it has said WORDS
    <!-- Ctrl-C COMMAND -->      first, that one of the running programs is ended
    <!-- exit N -->              it ends with this code
    <!-- done -->                whoever runs the tests has done it
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(r"((?:<!--[^>]*-->\n)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (.*?) -->")
OURS = re.compile(r"File \".*/fleet_(client|server|agent|protocol)/")
PATIENCE = 60


@dataclass(frozen=True, slots=True)
class Block:
    marks: tuple[str, ...]
    language: str
    text: str

    def mark(self, kind: str) -> str | None:
        return next((one.removeprefix(kind).strip() for one in self.marks if one.startswith(kind)), None)


def blocks(page: Path) -> Iterator[Block]:
    for found in BLOCK.finditer(page.read_text("utf-8")):
        yield Block(tuple(MARK.findall(found[1])), found[2], found[3])


@dataclass
class Reader:
    """Somebody who follows pages in one folder, and what they left running there."""

    folder: Path
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def follow(self, page: Path) -> None:
        for block in blocks(page):
            if block.mark("done") is None:
                self._do(block)

    def _do(self, block: Block) -> None:
        if (ended := block.mark("Ctrl-C ")) is not None:
            self.interrupt(ended)
        if (name := block.mark("file ")) is not None:
            self._save(name, block.text)
        elif (words := block.mark("stays:")) is not None:
            self._start(block.text.strip(), words)
        elif block.language == "sh":
            self._type(block.text, int(block.mark("exit ") or 0))

    def _save(self, name: str, text: str) -> None:
        file = self.folder / name.removesuffix(": more")
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_text("utf-8") + "\n" if name.endswith(": more") else ""
        file.write_text(before + text, "utf-8")

    def _type(self, text: str, code: int) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == code, f"{text}\nended with {done.returncode}, not {code}:\n{done.stdout}"
        assert not OURS.search(done.stdout), (
            done.stdout
        )  # a script's own traceback is in its log, ours nowhere

    def _start(self, command: str, words: str) -> None:
        said = self.folder / f"{len(list(self.folder.glob('*.said')))}.said"
        with said.open("wb") as output:
            program = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.running[command] = program
        give_up = time.monotonic() + PATIENCE
        while words not in said.read_text("utf-8"):
            assert program.poll() is None, f"{command} ended:\n{said.read_text('utf-8')}"
            assert time.monotonic() < give_up, f"{command} did not say {words!r}:\n{said.read_text('utf-8')}"
            time.sleep(0.05)

    def interrupt(self, beginning: str) -> None:
        for command in [one for one in self.running if one.startswith(beginning)]:
            program = self.running.pop(command)
            program.send_signal(signal.SIGINT)
            try:
                program.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                program.kill()
                raise

    def leave(self) -> None:
        """End all that still runs, the workers first."""
        try:
            for command in ("fleet-agent", ""):
                self.interrupt(command)
        finally:
            for program in self.running.values():
                os.kill(program.pid, signal.SIGKILL)
