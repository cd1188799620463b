"""An attempt's output as one reproducible file: the same files give the same bytes, on any day and machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fleet_protocol.archive import content_digest, write_archive
from fleet_protocol.ids import Sha256

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdFile
else:
    from backports.zstd import ZstdFile

LEVEL = 3  # one thread is the library's default; more would change the bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    path: Path
    sha256: Sha256
    size_bytes: int


def make_bundle(folder: Path, target: Path) -> Bundle:
    """Pack `folder` into `target`: the protocol's archive, then zstd. OSError, NotArchived."""
    with ZstdFile(target, "w", level=LEVEL) as packed:
        write_archive(folder, packed)
    return Bundle(target, content_digest(target), target.stat().st_size)
