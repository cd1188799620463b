"""Labelled multivariate time series from Parquet: any channels, rate and lengths.

A data set is a folder with `data.parquet` (columns `host`, `recording`, `t`, `label`, and one per channel) and
`dataset.json` (its rate and what its channels mean). `host` says who or what was recorded; it is not a machine of
the fleet. A recording has one host; its label may change on the way, or be missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_trainer.digest import digest, every_file
from fleet_trainer.errors import DataWrong
from fleet_trainer.table import KEYS, read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fleet_trainer.table import Stretch, Table

DATA_FILE = "data.parquet"
INFO_FILE = "dataset.json"
PREPARE = "`fleet-train convert watch --out DIR` prepares the smartwatch set"
UNLABELLED = -1


class DatasetInfo(BaseModel):
    """dataset.json: only `rate_hz` is needed, further keys are for people."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    rate_hz: float = Field(gt=0)
    name: str = "unnamed"
    classes: list[str] = []  # in the order of the outputs; the labels, sorted, when empty
    privileged: list[str] = []  # channels a `realistic` job never sees
    vectors: list[list[str]] = []  # channels that are the axes of one quantity


class Run(NamedTuple):
    """Samples of a recording with one label."""

    begin: int
    end: int
    label: int  # index into Dataset.classes, or UNLABELLED


@dataclass(frozen=True, eq=False)
class Recording:
    name: str
    host: str
    values: NDArray[np.float32]  # (samples, channels); NaN where a value is missing
    runs: tuple[Run, ...]  # without a gap from 0 to len(values)
    start: int = 0  # sample of the whole recording that values[0] is

    @property
    def label(self) -> int:
        """The one that most of its samples have; UNLABELLED where none has one."""
        lengths: dict[int, int] = {}
        for run in self.runs:
            if run.label != UNLABELLED:
                lengths[run.label] = lengths.get(run.label, 0) + run.end - run.begin
        return max(sorted(lengths), key=lambda label: lengths[label], default=UNLABELLED)

    def part(self, begin: int, end: int) -> Recording:
        runs = (Run(max(r.begin, begin) - begin, min(r.end, end) - begin, r.label) for r in self.runs)
        kept = tuple(run for run in runs if run.begin < run.end)
        return replace(self, values=self.values[begin:end], runs=kept, start=self.start + begin)


@dataclass(frozen=True, eq=False)
class Dataset:
    name: str
    rate_hz: float
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    vectors: tuple[tuple[int, ...], ...]  # indices into channels
    recordings: tuple[Recording, ...]  # by name
    sha256: str  # of its two files


class Known(NamedTuple):
    """What a trained model takes and tells."""

    channels: tuple[str, ...]
    classes: tuple[str, ...]


def load(
    folder: Path | None,
    mode: Literal["realistic", "oracle"],
    sha256: str | None = None,
    known: Known | None = None,
) -> Dataset:
    """Read a data set; in `realistic` mode the privileged columns are not even read.

    `sha256` is what the manifest calls it by: of all files of the folder. For a `known` model its channels alone are
    read, in its order, and no label. DataWrong says what is missing or wrong,
    and where; OSError when it is too large for memory and TMPDIR has no room for it.
    """
    if folder is None:
        raise DataWrong(f"FLEET_DATA is not set: it names the folder of {DATA_FILE}; {PREPARE}")
    for name in (DATA_FILE, INFO_FILE):
        if not (folder / name).is_file():
            raise DataWrong(f"there is no {name} in {folder}; {PREPARE}")
    found = _verified(folder, sha256)
    info = _info(folder / INFO_FILE)
    path = folder / DATA_FILE
    try:
        channels = _channels(path, pl.read_parquet_schema(path), info, mode, known)
        table = read(path, channels, labelled=known is None)
    except pl.exceptions.PolarsError as error:
        raise DataWrong(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    classes = known.classes if known else _classes(path, table, info)
    return Dataset(
        name=info.name,
        rate_hz=info.rate_hz,
        classes=classes,
        channels=tuple(channels),
        vectors=_vectors(info, channels),
        recordings=_recordings(path, table, classes),
        sha256=found,
    )


def _verified(folder: Path, sha256: str | None) -> str:
    try:
        found = digest(folder, (DATA_FILE, INFO_FILE))
        if sha256 is None or sha256 == found or sha256 == digest(folder, every_file(folder)):
            return found
    except OSError as error:
        raise DataWrong(f"{folder} cannot be read: {error.strerror or error}") from None
    raise DataWrong(f"{folder} is not the data set of the job: its digest is {found}, not {sha256}")


def _info(path: Path) -> DatasetInfo:
    try:
        return DatasetInfo.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataWrong(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise DataWrong(f"{path} is not JSON: {error}") from None


def _channels(
    path: Path, columns: dict[str, pl.DataType], info: DatasetInfo, mode: str, known: Known | None
) -> list[str]:
    keys = [key for key in KEYS if key != "label" or not known]
    if missing := [key for key in keys if key not in columns]:
        raise DataWrong(f"{path} has no column {missing[0]}; it needs {', '.join(keys)} and the channels")
    channels = [name for name in columns if name not in KEYS]
    if unknown := [name for name in info.privileged if name not in channels]:
        raise DataWrong(f"{INFO_FILE} calls {unknown[0]} privileged, but {path} has no such channel")
    if mode == "realistic":
        channels = [name for name in channels if name not in info.privileged]
    if known:
        if lost := [name for name in known.channels if name not in channels]:
            raise DataWrong(f"{path} has no channel {lost[0]} in {mode} mode, which the model was trained on")
        channels = list(known.channels)
    if not channels:
        raise DataWrong(f"{path} has no channel left in {mode} mode")
    if words := [name for name in channels if not columns[name].is_numeric()]:
        raise DataWrong(f"{path}: channel {words[0]} is {columns[words[0]]}, not a number")
    return channels


def _classes(path: Path, table: Table, info: DatasetInfo) -> tuple[str, ...]:
    labels = sorted({stretch.label for stretch in table.stretches if stretch.label is not None})
    if info.classes and (extra := sorted(set(labels) - set(info.classes))):
        raise DataWrong(f"{path} has the label {extra[0]}, which {INFO_FILE} does not list in classes")
    if len(set(info.classes)) < len(info.classes):
        raise DataWrong(f"{INFO_FILE} lists a class twice")
    if len(labels) < 2:
        raise DataWrong(f"{path} has {len(labels)} label; there is nothing to tell apart")
    return tuple(info.classes or labels)


def _vectors(info: DatasetInfo, channels: list[str]) -> tuple[tuple[int, ...], ...]:
    whole = (axes for axes in info.vectors if all(axis in channels for axis in axes))
    return tuple(tuple(map(channels.index, axes)) for axes in whole)


def _recordings(path: Path, table: Table, classes: tuple[str, ...]) -> tuple[Recording, ...]:
    numbers = {None: UNLABELLED} | {label: number for number, label in enumerate(classes)}
    by_name: dict[str, list[Stretch]] = {}
    for stretch in table.stretches:
        by_name.setdefault(stretch.recording, []).append(stretch)
    recordings = []
    for name, stretches in sorted(by_name.items()):
        if len(hosts := {stretch.host for stretch in stretches}) > 1:
            raise DataWrong(f"{path}: recording {name} has {len(hosts)} hosts; split it into {len(hosts)}")
        begin, end = stretches[0].begin, stretches[-1].end
        runs = _runs((s.begin - begin, s.end - begin, numbers[s.label]) for s in stretches)
        recordings.append(Recording(name, stretches[0].host, table.values[begin:end], runs))
    return tuple(recordings)


def _runs(stretches: Iterable[tuple[int, int, int]]) -> tuple[Run, ...]:
    return tuple(Run(*stretch) for stretch in stretches)
