"""What stands in braces in a program's command: checked where a manifest is read, filled in where the job runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

PLACEHOLDERS = ("data", "output_dir", "checkpoint_dir", "seed", "device", "attempt")
"""Beside `hyper.KEY`."""
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def names(word: str) -> Iterator[str]:
    """What `word` asks for."""
    return (found[1] for found in _BRACES.finditer(word) if found[1] is not None)


def fill(word: str, value: Callable[[str], str]) -> str:
    """`word` with each name's value in its place, and one brace for two."""
    return _BRACES.sub(lambda found: found[0][0] if found[1] is None else value(found[1]), word)
