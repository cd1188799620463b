"""The disk that logs share with everything else here: parts of files given back, and room kept for last words."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path

BLOCK_BYTES = 64 * 1024
"""What is given back is a multiple of it: no file system has larger blocks, and only whole ones are freed."""

_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_C = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_FALLOCATE = getattr(_C, "fallocate64", None) or getattr(_C, "fallocate", None)  # 64 bits where long has 32
if _FALLOCATE is not None:
    _FALLOCATE.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def punch(descriptor: int, start: int, end: int) -> None:
    """Give the bytes from `start` to `end` back; the file keeps its length. OSError where that cannot be done."""
    if _FALLOCATE is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    while _FALLOCATE(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, end - start):
        if (code := ctypes.get_errno()) != errno.EINTR:
            raise OSError(code, os.strerror(code))


def can_punch(folder: Path) -> bool:
    """Whether files in `folder` can be punched and tell afterwards where. OSError: the disk is too full to try."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"x" * 2 * BLOCK_BYTES)
        try:
            punch(file.fileno(), 0, BLOCK_BYTES)
            return data_after(file.fileno(), 0) == BLOCK_BYTES
        except OSError:
            return False


def data_after(descriptor: int, offset: int) -> int | None:
    """Where the first byte at or behind `offset` is that was not given back; None: nowhere."""
    if sys.platform == "win32":
        return offset
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        return offset  # a file system that does not tell gives nothing back


def hole_after(descriptor: int, offset: int) -> int | None:
    """Where the next given back byte behind `offset` is, or the file's end; None: that is not told."""
    if sys.platform == "win32":
        return None
    try:
        return os.lseek(descriptor, offset, os.SEEK_HOLE)
    except OSError:
        return None


class Reserve:
    """A file that only takes room, to be given back when the disk is full: for a result, and a log's last lines."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self._path = folder / "reserve"
        self.is_held = self._path.exists() and self._path.stat().st_size == size
        self._is_spent = False

    def take(self) -> None:
        """OSError unless there is room for it and more, so that neither taking it nor what begins then fills a disk."""
        if self.free < (needed := self.size // 4 if self.is_held else 2 * self.size):
            raise OSError(errno.ENOSPC, f"fewer than {needed:,} bytes are free there")
        if self.is_held:
            return
        try:
            with self._path.open("wb") as file:
                if sys.platform == "linux":
                    os.posix_fallocate(file.fileno(), 0, self.size)
                else:
                    file.write(bytes(self.size))
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        self.is_held, self._is_spent = True, False

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self.is_held, self._is_spent = False, True

    @property
    def is_needed(self) -> bool:
        """The disk is as good as full, or was and has not much more room since."""
        return self._is_spent or self.free < self.size // 4

    @property
    def free(self) -> int:
        """Bytes that this account may still write."""
        disk = shutil.disk_usage(self._path.parent)
        return disk.free if disk.total else sys.maxsize  # some file systems do not say
