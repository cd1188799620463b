"""One coordinator per data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO


class FolderInUse(Exception):
    """Another coordinator uses this data folder."""


def hold(folder: Path) -> IO[str]:
    """Lock `folder` until the returned file is closed or the process ends; FolderInUse when it is locked."""
    file = (folder / "lock").open("a+", encoding="ascii")
    try:
        _lock(file)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise FolderInUse(
            f"another coordinator (process {holder}) uses {folder}; stop it, or give another --data"
        ) from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


if sys.platform == "win32":  # not run yet
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
