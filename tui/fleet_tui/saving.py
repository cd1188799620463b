"""What is read, as a file in the folder the dashboard was started in; one that is there is never written over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from itertools import count
from pathlib import Path


def free_path(name: str, attempt: int) -> Path:
    """`NAME-ATTEMPT.log`, with a number behind it while there is such a file; only harmless letters of the name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "job"
    names = (f"{stem}-{attempt}{f'-{number}' if number else ''}.log" for number in count())
    return next(path for path in map(Path, names) if not path.exists())


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Bytes written."""
    data = "".join(f"{line}\n" for line in lines).encode()
    with path.open("xb") as file:
        return file.write(data)


async def write_pieces(path: Path, pieces: AsyncIterator[bytes]) -> int:
    """Bytes written; what did not come whole is taken away again."""
    written, whole = 0, False
    with path.open("xb") as file:
        try:
            async for piece in pieces:
                written += await asyncio.to_thread(file.write, piece)
            whole = True
        finally:
            if not whole:
                await asyncio.to_thread(path.unlink)
    return written
