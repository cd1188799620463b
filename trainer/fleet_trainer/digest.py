"""What a data set is called by: the SHA-256 of its files as one archive, as the manifest's `[datasets]` has it.

The archive is USTAR with sorted names, zero times and owners, mode 0644. It is never written, only hashed.
"""

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BLOCK_BYTES = 1 << 20


def digest(folder: Path, names: Iterable[str]) -> str:
    """Of these files of `folder`, whatever else is there. OSError."""
    sha256, length = hashlib.sha256(), 2 * tarfile.BLOCKSIZE  # of zeros, the end
    for name in sorted(names):
        size = (folder / name).stat().st_size
        header = _header(name, size)
        sha256.update(header)
        with (folder / name).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                sha256.update(block)
        padding = -size % tarfile.BLOCKSIZE
        sha256.update(bytes(padding))
        length += len(header) + size + padding
    sha256.update(bytes(2 * tarfile.BLOCKSIZE + -length % tarfile.RECORDSIZE))
    return sha256.hexdigest()


def every_file(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
