"""The product's own source, parsed once. Rules walk it, so a new module is under them the day it is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("protocol", "server", "agent", "client", "tui", "trainer", "alembic")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def part(self) -> str:
        return self.path.relative_to(ROOT).parts[0]

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text, self.name)))

    def at(self, node: ast.stmt | ast.expr | ast.ExceptHandler) -> str:
        return f"{self.name}:{node.lineno}"

    def functions(self) -> Iterator[Function]:
        return (node for node in self.nodes if isinstance(node, Function))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self.nodes if isinstance(node, ast.ClassDef))


def height(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _below(*folders: str) -> list[Source]:
    return [Source(file) for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


PRODUCT = _below(*PARTS)
SERVER = [source for source in PRODUCT if source.part == "server"]
TESTS = _below("tests")
EVERYTHING = [*PRODUCT, *TESTS, *_below("bench"), Source(ROOT / "run.py")]
