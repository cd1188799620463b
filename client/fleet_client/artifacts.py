"""Fetching an artifact and proving what it is, with the coordinator and without."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pydantic import ValidationError

from fleet_client.errors import Unreachable, Unreadable
from fleet_protocol.archive import NotArchived, content_digest, read_archive, unpack_archive
from fleet_protocol.artifacts import MAX_METRICS_BYTES, METRICS_FILE, Certificate, Evaluation
from fleet_protocol.ids import SHA256_PATTERN
from fleet_protocol.jobs import ArtifactView

if TYPE_CHECKING:
    from fleet_client.client import FleetClient
    from fleet_client.pushing import Told

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

TRIES = 3  # in a row that bring nothing further
PAUSE_SECONDS = 0.5
PEEK_BYTES = 4 << 20


def file_name(artifact: ArtifactView) -> str:
    """Nothing in it is of anybody's choosing."""
    return f"{artifact.model}_{artifact.mode}-{artifact.sha256[:12]}.tar.zst"


async def fetch(fleet: FleetClient, artifact: ArtifactView, target: Path, told: Told) -> None:
    """The artifact at `target`, verified before it is there; goes on where an earlier fetch ended. Unreadable."""
    part = target.with_name(f"{target.name}.part")
    try:
        if await asyncio.to_thread(_is, target, artifact.sha256):
            return
        await _persist(fleet, artifact, part, told)
        if not await asyncio.to_thread(_is, part, artifact.sha256):
            _discard(part)
            raise Unreadable(f"What came for {target} is not what was asked for.", "run it again")
        part.replace(target)
    except OSError as error:
        raise Unreadable(
            f"{target} cannot be written: {error.strerror or error}.",
            "run it again when that is mended: it goes on where it ended",
        ) from error


async def _persist(fleet: FleetClient, artifact: ArtifactView, part: Path, told: Told) -> None:
    left = TRIES
    while True:
        began = _length(part)
        if began > artifact.size_bytes:
            _discard(part)
            began = 0
        told(began, artifact.size_bytes)
        try:
            await _append(fleet, artifact, part, told)
            return
        except Unreachable:
            left = TRIES if _length(part) > began else left - 1
            if left == 0:
                raise
            await asyncio.sleep(PAUSE_SECONDS)


def _is(file: Path, sha256: str) -> bool:
    return file.exists() and content_digest(file) == sha256


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _discard(part: Path) -> None:
    part.unlink()


async def _append(fleet: FleetClient, artifact: ArtifactView, part: Path, told: Told) -> None:
    with part.open("ab") as file:
        done = file.tell()
        if done < artifact.size_bytes:
            async for block in fleet.artifact_bytes(artifact.sha256, done):
                file.write(block)
                told(done := done + len(block), artifact.size_bytes)
        file.flush()
        os.fsync(file.fileno())
    if done < artifact.size_bytes:
        raise Unreachable(f"The connection ended {artifact.size_bytes - done} bytes before the artifact did.")


def unpack(file: Path, folder: Path) -> None:
    """The bundle's files into a new `folder`. Unreadable."""
    if folder.exists():
        raise Unreadable(f"{folder} is there already.", "move it away, or choose another --out")
    try:
        with file.open("rb") as packed, ZstdFile(packed) as plain:
            unpack_archive(plain, folder)
    except (OSError, NotArchived, ZstdError, EOFError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Unreadable(f"{file} cannot be unpacked: {error}.") from error


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    size_bytes: int
    sha256: str


def members(packed: IO[bytes]) -> Iterator[Member]:
    """Every file of a bundle with its digest; NotArchived where it is none of ours, to the last byte."""
    try:
        with ZstdFile(packed) as plain:
            for name, size, blocks in read_archive(plain):
                digest = hashlib.sha256()
                for block in blocks:
                    digest.update(block)
                yield Member(name, size, digest.hexdigest())
    except (ZstdError, EOFError) as error:
        raise NotArchived(f"it cannot be decompressed: {error}") from None


async def evaluation(fleet: FleetClient, artifact: ArtifactView) -> Evaluation | None:
    """What an artifact's `metrics.json` tells; None without one among its first 4 MiB, or one of another kind."""
    head = bytearray()
    async for block in fleet.artifact_bytes(artifact.sha256, most=PEEK_BYTES):
        head += block
        if len(head) >= PEEK_BYTES:
            break
    return evaluation_in(bytes(head))


def evaluation_in(head: bytes) -> Evaluation | None:
    """The same from a bundle's beginning, which may end anywhere."""
    try:
        with ZstdFile(io.BytesIO(head)) as plain:
            for name, size, blocks in read_archive(plain):
                if name == METRICS_FILE and size <= MAX_METRICS_BYTES:
                    return Evaluation.model_validate_json(b"".join(blocks))
                if name >= METRICS_FILE:
                    return None
    except (NotArchived, ZstdError, EOFError, ValidationError):
        return None
    return None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a file proved to be. `problems` empty: everything that could be checked agrees."""

    sha256: str
    size_bytes: int
    files: tuple[Member, ...]
    certificate: Certificate | None
    uploads: tuple[dict[str, object], ...]
    problems: tuple[str, ...]


def verify(file: Path) -> Verified:
    """Digest, content and origin of a bundle, from it and what lies beside it. Unreadable where there is no file."""
    problems: list[str] = []
    found: list[Member] = []
    try:
        sha256, size = content_digest(file), file.stat().st_size
        with file.open("rb") as packed:
            found.extend(members(packed))
    except NotArchived as error:
        problems.append(f"it is no artifact: {error}")
        sha256, size = content_digest(file), file.stat().st_size
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror or error}.") from error
    certificate, wrong = _certificate(file)
    problems += wrong
    uploads = tuple(_uploads(file, sha256))
    folder = file.resolve().parent.name
    expected = (
        certificate.artifact.sha256 if certificate else folder if re.match(SHA256_PATTERN, folder) else None
    )
    if expected and expected != sha256:
        problems.append(f"its SHA-256 is {sha256}, and {expected} was expected")
    return Verified(sha256, size, tuple(found), certificate, uploads, tuple(problems))


def certificate_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _certificate(file: Path) -> tuple[Certificate | None, list[str]]:
    path = certificate_of(file)
    try:
        told = Certificate.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None, []
    except (OSError, ValidationError):
        return None, [f"{path} cannot be read"]
    if told.identity == told.spec.job_id == told.artifact.job_id:
        return told, []
    return told, [f"{path} was changed: what it says was trained is job {told.identity}"]


def _uploads(file: Path, sha256: str) -> Iterator[dict[str, object]]:
    """The coordinator's own lines about an artifact, where the file is still in its data folder."""
    try:
        lines = (file.resolve().parents[2] / "index.jsonl").read_text("utf-8").splitlines()
    except (OSError, IndexError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and told.get("sha256") == sha256:
            yield told
