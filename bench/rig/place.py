"""What the benches of many figures share: where a run keeps its things, which figures are wanted, load from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests import postgres

from bench.figure import Figure
from bench.rig.demo import ROOT
from bench.rig.programs import Fleet, running


@dataclass(slots=True)
class Place:
    """Where a run keeps its things, and how large it is."""

    folder: Path
    stack: ExitStack
    quick: bool
    _postgres: list[postgres.Postgres] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def new(self) -> Path:
        return self.folder / str(next(self._numbers))

    def new_folder(self) -> Path:
        folder = self.new()
        folder.mkdir()
        return folder

    @contextmanager
    def database(self, engine: str) -> Iterator[str | None]:
        """The URL of a new database; None for SQLite in the data folder."""
        if engine == "sqlite":
            yield None
            return
        if not self._postgres:
            self._postgres.append(self.stack.enter_context(postgres.server(durable=True)))
        with self._postgres[0].database() as url:
            yield url

    @contextmanager
    def fleet(self, manifest: str, engine: str = "sqlite", **settings: str) -> Iterator[Fleet]:
        with (
            self.database(engine) as url,
            running(self.new(), manifest=manifest, database=url, **settings) as fleet,
        ):
            yield fleet


Parts = Mapping[str, Callable[[Place, str], Iterator[Figure]]]
"""By the name of their first figure."""


def chosen(parts: Parts, *options: str) -> Iterator[Figure]:
    """The figures of all parts, or of those whose names begin as one of `--only NAME,NAME` does."""
    only = options[options.index("--only") + 1].split(",") if "--only" in options else [""]
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder, ExitStack() as stack:
        place = Place(Path(folder), stack, "--quick" in options)
        for name, part in parts.items():
            if any(name.startswith(wanted) for wanted in only):
                yield from part(place, name)


def load(module: str, *arguments: object, said: str = "") -> dict[str, Any]:
    """Load comes from a process of its own, which is told something and tells what it saw as one JSON object."""
    output = subprocess.check_output(command(module, *arguments), cwd=ROOT, input=said, text=True)
    told: dict[str, Any] = json.loads(output)
    return told


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"bench.rig.{module}", *map(str, arguments)]
