"""An artifact read back, as fleet keeps it or as a folder of the same files. Nothing is written, nothing unpickled."""

from __future__ import annotations

import json
import sys
import tarfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from fleet_trainer.errors import ArtifactWrong
from fleet_trainer.hyper import Hyper, parse
from fleet_trainer.spec import JobSpec

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

JOB, METRICS, NETWORKS, TREES = "job.json", "metrics.json", "model.safetensors", "model.txt"
PREDICTIONS = "predictions.parquet"
# The most of each that is read into memory; predictions are passed over.
LIMITS = {JOB: 16 << 20, METRICS: 64 << 20, NETWORKS: 4 << 30, TREES: 4 << 30, PREDICTIONS: 16 << 30}
BLOCK_BYTES = 1 << 20


class TrainedOn(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    name: str
    sha256: str
    rate_hz: float = Field(gt=0)
    channels: list[str] = Field(min_length=1)
    vectors: list[list[str]]  # channels that are the axes of one quantity
    classes: list[str] = Field(min_length=2)
    train_hosts: list[str]
    test_hosts: list[str]
    train_recordings: int
    test_recordings: int

    @model_validator(mode="after")
    def _names_are_clear(self) -> TrainedOn:
        for names in (self.channels, self.classes):
            if len(set(names)) < len(names):
                raise ValueError("a channel or a class comes twice")
        if not {axis for axes in self.vectors for axis in axes} <= set(self.channels):
            raise ValueError("vectors name a channel that there is not")
        return self

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """The vectors as indices into channels."""
        return tuple(tuple(map(self.channels.index, vector)) for vector in self.vectors)


class Trained(BaseModel):
    """job.json: what was trained on what, defaults filled in; enough to predict with the model."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    trainer: str
    job_id: str
    model: str
    mode: str
    hyper: dict[str, JsonValue]
    split_recipe: str
    seed: int
    n_resamples: int
    data: TrainedOn


@dataclass(frozen=True)
class Bundle:
    path: Path
    files: Mapping[str, bytes]
    trained: Trained

    @cached_property
    def spec(self) -> JobSpec:
        given = self.trained.model_dump(exclude={"trainer", "data"})
        given |= {"schema": 1, "train_hosts": self.trained.data.train_hosts}
        return parse(JobSpec, given, prefix=f"{JOB}: ", owner="the artifact")

    @cached_property
    def hyper(self) -> Hyper:
        return self.spec.settings()

    def file(self, name: str) -> bytes:
        if name not in self.files:
            raise ArtifactWrong(f"{self.path} has no {name}; it is no artifact of the built-in trainer")
        return self.files[name]


def read_bundle(path: Path) -> Bundle:
    """An artifact's files and what they say of its training. ArtifactWrong, SpecRefused, OSError."""
    found = dict(_folder(path) if path.is_dir() else _members(path))
    if JOB not in found:
        raise ArtifactWrong(f"{path} has no {JOB}; it is no artifact of the built-in trainer")
    told = parse(Trained, as_json(path, JOB, found[JOB]), prefix=f"{JOB}: ", owner="the artifact")
    return Bundle(path, found, told)


def as_json(path: Path, name: str, content: bytes) -> JsonValue:
    try:
        value: JsonValue = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactWrong(f"{path}: {name} is not JSON: {error}") from None
    return value


def _folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files that are an artifact's; what else lies there is nobody's concern."""
    for name in LIMITS:
        if name != PREDICTIONS and (file := folder / name).is_file():
            _check_size(folder, name, file.stat().st_size)
            yield name, file.read_bytes()


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Headers are read one by one: tarfile's own reader would believe an extended header of any size."""
    seen: set[str] = set()
    try:
        with ZstdFile(path) as plain:
            while any(header := _exactly(plain, tarfile.BLOCKSIZE)):
                entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
                name, size = entry.name, entry.size
                if entry.type != tarfile.REGTYPE or name not in LIMITS or name in seen:
                    raise ArtifactWrong(
                        f"{path} holds {name!r}, which no artifact of the built-in trainer does"
                    )
                _check_size(path, name, size)
                seen.add(name)
                if name == PREDICTIONS:
                    for begin in range(0, size, BLOCK_BYTES):
                        _exactly(plain, min(BLOCK_BYTES, size - begin))
                else:
                    yield name, _exactly(plain, size)
                _exactly(plain, -size % tarfile.BLOCKSIZE)
    except (ZstdError, EOFError, tarfile.HeaderError) as error:
        raise ArtifactWrong(f"{path} is no whole bundle.tar.zst: {error}") from None


def _check_size(path: Path, name: str, size: int) -> None:
    if not 0 <= size <= LIMITS[name]:
        raise ArtifactWrong(f"{path}: {name} has {size:,} bytes; at most {LIMITS[name]:,} are read")


def _exactly(plain: ZstdFile, count: int) -> bytes:
    data = plain.read(count)
    if len(data) < count:
        raise EOFError("it is cut off")
    return data
