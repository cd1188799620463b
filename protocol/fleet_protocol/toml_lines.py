"""Where each key of a TOML text stands: `tomllib` parses but does not tell lines.

A scanner over text that is already known to be valid TOML, so it only has to follow it, not to judge it.
Keys inside inline tables and arrays are not located; `Lines.of` falls back to the nearest key around them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]

_SEGMENT = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")
_STRINGS = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*|[\[\]{}\n]",
    re.DOTALL,
)


@dataclass(slots=True)
class Lines:
    """Line numbers, from 1, by key path (`("jobs", 0, "hyper", "lr")`)."""

    at: dict[KeyPath, int] = field(default_factory=dict)

    def of(self, path: KeyPath) -> int | None:
        """The line of `path`, or of the nearest key around it."""
        while path:
            if path in self.at:
                return self.at[path]
            path = path[:-1]
        return None


def locate(text: str) -> Lines:
    """Follow valid TOML and note the line of every table header and key."""
    lines = Lines()
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    position, line = 0, 1
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        statement = text[position:end].strip()
        if statement.startswith("["):
            table = _enter(_keys(statement.lstrip("["), 0)[0], statement.startswith("[["), arrays)
            for depth in range(1, len(table) + 1):
                lines.at.setdefault(table[:depth], line)
        elif statement and not statement.startswith("#"):
            keys, equals = _keys(text, position)
            path = table
            for key in keys:
                path = (*path, key)
                lines.at.setdefault(path, line)
            end = _end_of_value(text, equals)
        line += text.count("\n", position, end + 1)
        position = end + 1
    return lines


def _keys(text: str, position: int) -> tuple[list[str], int]:
    """The dotted key that stands at `position`, and where it ends."""
    keys: list[str] = []
    while match := _SEGMENT.match(text, position):
        raw = match[1]
        keys.append(raw[1:-1] if raw[0] in "\"'" else raw)
        position = match.end()
        if text[position : position + 1] != ".":
            break
        position += 1
    return keys, position


def _enter(keys: list[str], is_array: bool, arrays: dict[KeyPath, int]) -> KeyPath:
    """The full path of a table header: arrays of tables get the index of their latest entry."""
    path: KeyPath = ()
    for depth, key in enumerate(keys, start=1):
        path = (*path, key)
        if depth == len(keys) and is_array:
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, arrays[path])
    return path


def _end_of_value(text: str, start: int) -> int:
    """Index of the newline that ends the value after `start`, over multi-line strings and arrays."""
    depth = 0
    for match in _STRINGS.finditer(text, start):
        token = match[0]
        if token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
        elif token == "\n" and depth <= 0:
            return match.start()
    return len(text)
