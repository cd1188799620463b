"""Files that survive the loss of power: on disk when the call returns. OSError where they cannot be."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, text: str, mode: int = 0o666) -> None:
    """Replace `path` as a whole; nobody can read what `mode` denies them, not even while it is written."""
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.touch(mode)
        draft.write_text(text, encoding="utf-8")
        sync(draft)
    except OSError:  # half a draft would hold the last bytes of a full disk
        draft.unlink(missing_ok=True)
        raise
    draft.replace(path)
    sync_folder(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Whole whenever it is read, though not on disk yet."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def sync(path: Path) -> None:
    """A file's bytes, whoever wrote them."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Which names are in it."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
