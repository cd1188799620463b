"""A folder as one reproducible compressed file: the same files give the same bytes, on any day and machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fleet_agent.threads import Watch
from fleet_protocol.archive import NotArchived, Origin, Sink, content_digest, unpack_archive, write_archive
from fleet_protocol.ids import Sha256

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

LEVEL = 3  # one thread is the library's default; more would change the bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    path: Path
    sha256: Sha256
    size_bytes: int


def make_bundle(folder: Path, target: Path, watch: Watch | None = None) -> Bundle:
    """Pack `folder` into `target`: the protocol's archive, then zstd. OSError, NotArchived."""
    with ZstdFile(target, "w", level=LEVEL) as packed:
        sink: Sink = watch(packed) if watch else packed
        write_archive(folder, sink)
    return Bundle(target, content_digest(target), target.stat().st_size)


def unpack_bundle(file: IO[bytes], folder: Path, watch: Watch | None = None) -> None:
    """The files of a bundle, into a new folder. OSError, NotArchived."""
    try:
        with ZstdFile(file) as packed:
            origin: Origin = watch(packed) if watch else packed
            unpack_archive(origin, folder)
    except (ZstdError, EOFError) as error:
        raise NotArchived(f"it cannot be decompressed: {error}") from None
