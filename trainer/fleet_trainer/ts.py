"""UCR and UEA `.ts` files as Parquet. Each case becomes a recording; its file is its host.

Training on the host `train` so reproduces the published default split, and `test` is what it is tested on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from fleet_trainer.convert import write_dataset
from fleet_trainer.errors import DataWrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


class Case(NamedTuple):
    values: NDArray[np.float32]  # (samples, channels); NaN where a value is missing
    label: str


class Problem(NamedTuple):
    name: str
    classes: list[str]
    cases: list[Case]


def convert(train: Path, test: Path | None, out: Path, rate_hz: float) -> str:
    """Write one or two files into `out`; say what was written. DataWrong names the line that cannot be used."""
    parts = {host: read(path) for host, path in (("train", train), ("test", test)) if path is not None}
    problem = parts["train"]
    channels = {case.values.shape[1] for part in parts.values() for case in part.cases}
    if len(channels) > 1:
        raise DataWrong(
            f"the cases have {min(channels)} to {max(channels)} channels; they must have the same"
        )
    names = [f"c{number:0{len(str(max(channels)))}}" for number in range(1, max(channels) + 1)]
    frames = [
        pl.DataFrame(case.values, schema=names).select(
            pl.lit(host).alias("host"),
            pl.lit(f"{host}-{number:06}").alias("recording"),
            pl.Series("t", np.arange(len(case.values)) / rate_hz),
            pl.lit(case.label).alias("label"),
            pl.all(),
        )
        for host, part in sorted(parts.items())
        for number, case in enumerate(part.cases, 1)
    ]
    info = {
        "name": problem.name,
        "rate_hz": rate_hz,
        "classes": sorted({*problem.classes, *(c.label for part in parts.values() for c in part.cases)}),
        "host": "the file of the published split",
    }
    write_dataset(out, pl.concat(frames), info)
    longest = max(len(case.values) for part in parts.values() for case in part.cases)
    return (
        f"wrote {len(frames)} recordings of {len(names)} channels to {out}; for windows of whole recordings set"
        f" decimation = 1, window_seconds and stride_seconds = {longest / rate_hz}"
    )


def read(path: Path) -> Problem:
    """Missing values (`?`), channels and cases of any length. DataWrong."""
    header: dict[str, list[str]] = {}
    cases = []
    try:
        for number, line in _lines(path):
            if line.startswith("@"):
                key, *words = line[1:].split()
                header[key.lower()] = words
                if problem := _unusable(header):
                    raise DataWrong(f"{path}: {problem}")
            else:
                cases.append(_case(line, f"{path}, line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataWrong(f"{path} cannot be read: {error}") from None
    if not cases:
        raise DataWrong(f"{path} has no case; is it a .ts file?")
    return Problem(
        " ".join(header.get("problemname", [path.stem])), header.get("classlabel", [""])[1:], cases
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if (text := line.strip()) and not text.startswith(("#", "%")):
                yield number, text


def _unusable(header: dict[str, list[str]]) -> str:
    if header.get("timestamps", ["false"])[0].lower() == "true":
        return "samples with time stamps are not read; write it as Parquet with a column t"
    if "targetlabel" in header or header.get("classlabel", ["true"])[0].lower() != "true":
        return "it has no class labels to learn"
    return ""


def _case(line: str, where: str) -> Case:
    *texts, label = line.split(":")
    try:
        channels = [np.array(text.replace("?", "nan").split(","), np.float32) for text in texts]
    except ValueError as error:
        raise DataWrong(f"{where}: {error}") from None
    if not channels or not label.strip():
        raise DataWrong(f"{where}: a case is its channels and its label, with colons between them")
    values = np.full((max(map(len, channels)), len(channels)), np.nan, np.float32)
    for number, channel in enumerate(channels):
        values[: len(channel), number] = channel
    return Case(values, label.strip())
