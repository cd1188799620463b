"""The demo's folder: everything it makes is in there, and only a folder that it made is ever emptied."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from fleet_client.errors import FleetError
from fleet_protocol.local import note_file

MARKER = "FLEET_DEMO"
MARK = "Made by `fleet demo`, which may empty this folder again.\n"


class DemoFailed(FleetError):
    """The demo cannot be started or shown to its end."""


@dataclass(frozen=True, slots=True)
class Folder:
    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "training_manifest.toml"

    @property
    def coordinator(self) -> Path:
        return self.root / "coordinator"

    @property
    def dataset(self) -> Path:
        return self.root / "data"

    def agent(self, name: str) -> Path:
        return self.root / "agents" / name

    def log(self, program: str) -> Path:
        return self.root / "logs" / f"{program}.log"

    def operator_token(self) -> str:
        return (self.coordinator / "tokens" / "operator").read_text().strip()


@contextmanager
def claimed(root: Path, *, fresh: bool) -> Iterator[Folder]:
    """The folder, made or emptied as asked, and locked: two demos in one would tear each other's state."""
    marker = root / MARKER
    if root.exists() and not marker.is_file() and (not root.is_dir() or any(root.iterdir())):
        raise DemoFailed(
            f"{root} was not made by the demo, so it is left alone.", "name another folder with --dir"
        )
    root.mkdir(parents=True, exist_ok=True)
    with marker.open("a+", encoding="utf-8") as lock:
        if not locked(lock):
            raise DemoFailed(f"Another demo runs in {root}.", "end it, or name another folder with --dir")
        if fresh:
            check_ended(root / "coordinator")
            empty(root)
        lock.truncate(0)
        lock.write(MARK)
        lock.flush()
        (root / "logs").mkdir(exist_ok=True)
        (root / ".gitignore").write_text("*\n")
        folder = Folder(root)
        try:
            yield folder
        finally:
            forget(folder.coordinator)


def check_ended(data: Path) -> None:
    """DemoFailed while a coordinator uses that folder, as one does that outlived a killed demo.

    It holds an flock on the file, with its process id inside. Windows itself keeps open files from being removed.
    """
    if sys.platform == "win32" or not (data / "lock").is_file():
        return
    with (data / "lock").open("r+", encoding="ascii", errors="replace") as lock:
        if not locked(lock):
            process = lock.read(20).strip()
            raise DemoFailed(
                f"A coordinator (process {process or 'unknown'}) still uses {data}, so nothing was emptied.",
                f"end it with `kill {process}`" if process else "end it, or name another folder with --dir",
            )


def forget(data: Path) -> None:
    """Drop the account's notes of coordinators on that data: each run had another port, and none runs now."""
    for note in note_file(0).parent.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if Path(json.loads(note.read_text())["data"]) == data.resolve():
                note.unlink()


def empty(root: Path) -> None:
    for entry in root.iterdir():
        if entry.name == MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def locked(file: IO[str]) -> bool:
    """Held until the file is closed, also by a process that dies."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def bundled_manifest(*, torch: bool) -> str:
    """The demo's manifest: all seven models, or what can be trained without torch."""
    name = "training_manifest.toml" if torch else "training_manifest_gbt.toml"
    return files("fleet_client.demo").joinpath(name).read_text("utf-8")
