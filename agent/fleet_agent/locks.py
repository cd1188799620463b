"""Whole-file locks that end with the last process that holds them: how liveness is told without process ids."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def take(path: Path) -> int | None:
    """Lock `path`, creating it; the descriptor that holds the lock, or None when somebody else does.

    On POSIX the lock belongs to the open file, so a child that inherits the descriptor holds it too.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(handle)
    except OSError:
        os.close(handle)
        return None
    return handle


def inherited(path: Path, handle: int) -> int | None:
    """`handle`, if that is a lock on `path` which the program before this one left open; kept from children."""
    try:
        if not os.path.samestat(os.fstat(handle), path.stat()):
            return None
        _take(handle)  # a lock that was held stays held
    except OSError:
        return None
    os.set_inheritable(handle, False)
    return handle


def is_held(path: Path) -> bool:
    """True while any process holds the lock on `path`."""
    if not path.exists():
        return False
    handle = take(path)
    if handle is None:
        return True
    os.close(handle)
    return False
