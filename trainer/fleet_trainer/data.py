"""Labelled multivariate time series from Parquet: any channels, rate and lengths.

A data set is a folder with `data.parquet` (columns `host`, `recording`, `t`, `label`, and one per channel) and
`dataset.json` (its rate and what its channels mean). `host` says who or what was recorded; it is not a machine of
the fleet. A recording has one host and one label.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_trainer.errors import DataWrong

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DATA_FILE = "data.parquet"
INFO_FILE = "dataset.json"
KEYS = ("host", "recording", "t", "label")
PREPARE = "`fleet-train convert watch --out DIR` prepares the smartwatch set"


class DatasetInfo(BaseModel):
    """dataset.json: only `rate_hz` is needed, further keys are for people."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    rate_hz: float = Field(gt=0)
    name: str = "unnamed"
    classes: list[str] = []  # in the order of the outputs; the labels, sorted, when empty
    privileged: list[str] = []  # channels a `realistic` job never sees
    vectors: list[list[str]] = []  # channels that are the axes of one quantity


@dataclass(frozen=True, eq=False)
class Recording:
    name: str
    host: str
    label: int  # index into Dataset.classes
    values: NDArray[np.float32]  # (samples, channels)
    start: int = 0  # sample of the whole recording that values[0] is


@dataclass(frozen=True, eq=False)
class Dataset:
    name: str
    rate_hz: float
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    vectors: tuple[tuple[int, ...], ...]  # indices into channels
    recordings: tuple[Recording, ...]  # by name


def load(folder: Path | None, mode: Literal["realistic", "oracle"]) -> Dataset:
    """Read a data set; in `realistic` mode the privileged columns are not even read.

    DataWrong says what is missing or wrong, and where.
    """
    if folder is None:
        raise DataWrong(f"FLEET_DATA is not set: it names the folder of {DATA_FILE}; {PREPARE}")
    for name in (DATA_FILE, INFO_FILE):
        if not (folder / name).is_file():
            raise DataWrong(f"there is no {name} in {folder}; {PREPARE}")
    info = _info(folder / INFO_FILE)
    path = folder / DATA_FILE
    try:
        columns = pl.read_parquet_schema(path)
        channels = _channels(path, columns, info, mode)
        frame = pl.read_parquet(path, columns=[*KEYS, *channels])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataWrong(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    text = [pl.col(key).cast(pl.String) for key in ("host", "recording", "label")]
    frame = frame.with_columns(*text, pl.col(channels).cast(pl.Float32)).sort("recording", "t")
    classes = _classes(path, frame, info)
    return Dataset(
        name=info.name,
        rate_hz=info.rate_hz,
        classes=classes,
        channels=tuple(channels),
        vectors=_vectors(info, channels),
        recordings=_recordings(path, frame, channels, classes),
    )


def _info(path: Path) -> DatasetInfo:
    try:
        return DatasetInfo.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataWrong(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise DataWrong(f"{path} is not JSON: {error}") from None


def _channels(path: Path, columns: dict[str, pl.DataType], info: DatasetInfo, mode: str) -> list[str]:
    if missing := [key for key in KEYS if key not in columns]:
        raise DataWrong(f"{path} has no column {missing[0]}; it needs {', '.join(KEYS)} and the channels")
    channels = [name for name in columns if name not in KEYS]
    if unknown := [name for name in info.privileged if name not in channels]:
        raise DataWrong(f"{INFO_FILE} calls {unknown[0]} privileged, but {path} has no such channel")
    if mode == "realistic":
        channels = [name for name in channels if name not in info.privileged]
    if not channels:
        raise DataWrong(f"{path} has no channel left in {mode} mode")
    if words := [name for name in channels if not columns[name].is_numeric()]:
        raise DataWrong(f"{path}: channel {words[0]} is {columns[words[0]]}, not a number")
    return channels


def _classes(path: Path, frame: pl.DataFrame, info: DatasetInfo) -> tuple[str, ...]:
    if frame.select(pl.any_horizontal(pl.col(KEYS).is_null().any())).item():
        raise DataWrong(f"{path} has a row without host, recording, t or label")
    labels = sorted(frame["label"].unique())
    if info.classes and (extra := sorted(set(labels) - set(info.classes))):
        raise DataWrong(f"{path} has the label {extra[0]}, which {INFO_FILE} does not list in classes")
    if len(labels) < 2:
        raise DataWrong(f"{path} has {len(labels)} label; there is nothing to tell apart")
    return tuple(info.classes or labels)


def _vectors(info: DatasetInfo, channels: list[str]) -> tuple[tuple[int, ...], ...]:
    whole = (axes for axes in info.vectors if all(axis in channels for axis in axes))
    return tuple(tuple(map(channels.index, axes)) for axes in whole)


def _recordings(
    path: Path, frame: pl.DataFrame, channels: list[str], classes: tuple[str, ...]
) -> tuple[Recording, ...]:
    recordings = []
    for part in frame.partition_by("recording", maintain_order=True):
        name = part["recording"][0]
        for key in ("host", "label"):
            if (count := part[key].n_unique()) > 1:
                raise DataWrong(
                    f"{path}: recording {name} has {count} values of {key}; split it into {count}"
                )
        values = part.select(channels).to_numpy()
        if not np.isfinite(values).all():
            raise DataWrong(f"{path}: recording {name} has missing or infinite values; fill or drop them")
        label = classes.index(part["label"][0])
        recordings.append(Recording(name, part["host"][0], label, np.ascontiguousarray(values)))
    return tuple(recordings)
