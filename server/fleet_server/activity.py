"""Which coordinator is the active one: one holds the lock, others with the same database stand by.

On SQLite the lock is on the data folder, and a second coordinator is refused. On PostgreSQL it is an advisory lock
of the very connection that writes, so whoever loses the connection has lost the right to write, and a standby, which
has been waiting for the lock, takes over.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

ADVISORY_KEY = 0x666C656574  # "fleet"


class FolderInUse(Exception):
    """Another coordinator uses this data folder."""


def hold_folder(folder: Path) -> IO[str]:
    """Lock `folder` until the returned file is closed or the process ends; FolderInUse when it is locked."""
    file = (folder / "lock").open("a+", encoding="ascii")
    try:
        _lock(file)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        message = f"another coordinator (process {holder}) uses {folder}; stop it, or give another --data"
        raise FolderInUse(message) from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def is_active(engine: Engine) -> bool:
    """Try to become the active coordinator; once true, it holds as long as the engine's one connection does."""
    with engine.connect() as connection, connection.begin():
        return bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({ADVISORY_KEY})").scalar())


if sys.platform == "win32":  # not run yet
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
