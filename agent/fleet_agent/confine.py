"""Starts a program that cannot read the agent's secret, though both run as the same account: by Landlock of Linux.

Run as a script, by its path: `confine.py STATE PROGRAM ARGUMENT…`. All that is there now can be read and written, save
STATE beyond what jobs have in it. Landlock only knows what to allow, so that on the way down to STATE each neighbour is
allowed by itself; what is made beside them later is out of reach, which an account of the agent's own can bear and a
person's cannot. The agent's memory is closed with it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

JOBS_OWN = ("attempts", "blobs", "datasets", "kept", "home")
CREATE_RULESET, ADD_RULE, RESTRICT_SELF, SET_NO_NEW_PRIVILEGES = (
    444,
    445,
    446,
    38,
)  # the same on every machine
WRITE_FILE, READ_FILE, REFER, TRUNCATE = 1 << 1, 1 << 2, 1 << 13, 1 << 14
FILES, OLDEST = WRITE_FILE | READ_FILE | TRUNCATE, 3
"""OLDEST: the version since when cutting a file counts as writing it (Linux 6.2)."""


def is_supported() -> bool:
    if sys.platform != "linux":
        return False
    return int(_libc().syscall(CREATE_RULESET, None, 0, 1)) >= OLDEST


def restrict(state: Path) -> None:
    """This process, and all that it starts, for ever. OSError where it cannot be."""
    libc, attributes = _libc(), struct.pack("Q", FILES | REFER)
    rules = _checked(libc.syscall(CREATE_RULESET, attributes, len(attributes), 0))
    for path in _allowed(state.resolve()):
        _allow(libc, rules, path)
    _checked(libc.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(libc.syscall(RESTRICT_SELF, rules, 0))
    os.close(rules)


def _allowed(state: Path) -> list[Path]:
    neighbours = [
        path
        for folder in state.parents
        for path in folder.iterdir()
        if path != state and path not in state.parents
    ]
    return neighbours + [state / name for name in JOBS_OWN]


def _allow(libc: ctypes.CDLL, rules: int, path: Path) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone, or not ours to see
        return
    try:
        access = FILES | REFER if path.is_dir() else FILES
        libc.syscall(
            ADD_RULE, rules, 1, struct.pack("=Qi", access, handle), 0
        )  # refused for links, which stand for others
    finally:
        os.close(handle)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


if __name__ == "__main__":
    restrict(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
