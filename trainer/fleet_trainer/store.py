"""Arrays that need not fit memory: in memory while they are small, else in a file that is gone with the process.

Which of the two it is changes no bit of a result.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARE = 0.125  # of the memory that is free; a job has up to four such arrays
MEMINFO = Path("/proc/meminfo")
LIMIT = "FLEET_ARRAY_MIB"


def allocate(rows: int, columns: int) -> NDArray[np.float32]:
    """An array to be filled. One above FLEET_ARRAY_MIB, or an eighth of the free memory, is a file in TMPDIR.

    OSError when the disk has no room for it.
    """
    size = 4 * rows * columns
    if size <= _limit():
        return np.empty((rows, columns), np.float32)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a hole that finds no room when it is filled would be a SIGBUS
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return np.memmap(file, np.float32, "r+", shape=(rows, columns))


def _limit() -> float:
    if given := os.environ.get(LIMIT):
        return float(given) * 2**20
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return SHARE * 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return float("inf")  # not Linux: what does not fit is left to the system's own paging
