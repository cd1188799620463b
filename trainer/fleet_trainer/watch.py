"""The smartwatch set inside the package seglearn 1.2.5, as Parquet. The only place where a pickle is read.

140 recordings of 10 people (7 exercises, left and right arm), 6 channels at 50 Hz. A person is a host of the data:
`subject-01` to `subject-10`; a recording is called like `subject-01-PEN-left`. The gyroscope is the privileged
sensor: `realistic` jobs see the accelerometer only.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from pathlib import Path

import numpy as np
import polars as pl

from fleet_trainer.convert import write_dataset
from fleet_trainer.data import DATA_FILE, INFO_FILE
from fleet_trainer.errors import DataWrong

PACKAGE, VERSION = "seglearn", "1.2.5"
MEMBER = "seglearn/data/watch_dataset.npy"
# Unpickling runs code, so only these very bytes are unpickled.
MEMBER_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
RATE_HZ = 50.0
SIDES = ("left", "right")
ROWS = 244_102


def convert(out: Path) -> str:
    """Write the set into `out` unless it is there; say which. DataWrong if the package is missing or another."""
    if _is_complete(out):
        return f"{out} already has the smartwatch set; nothing to do"
    source = _source()
    frame, classes = _frame(source)
    info = {
        "name": "watch",
        "rate_hz": RATE_HZ,
        "classes": classes,
        "privileged": ["wx", "wy", "wz"],
        "vectors": [["ax", "ay", "az"], ["wx", "wy", "wz"]],
        "units": {"ax": "g", "ay": "g", "az": "g", "wx": "rad/s", "wy": "rad/s", "wz": "rad/s"},
        "host": "the person wearing the watch",
        "source": f"{PACKAGE} {VERSION}, {MEMBER}; Burns et al. 2018, doi 10.1088/1361-6579/aacfd9",
        "licence": "BSD-3-Clause, Copyright (c) 2018, David M. Burns",
    }
    write_dataset(out, frame, info)
    return f"wrote {frame['recording'].n_unique()} recordings of {frame['host'].n_unique()} people to {out}"


def _is_complete(out: Path) -> bool:
    if not (out / INFO_FILE).is_file():
        return False
    try:
        return bool(pl.scan_parquet(out / DATA_FILE).select(pl.len()).collect().item() == ROWS)
    except (pl.exceptions.PolarsError, OSError):
        return False


def _source() -> bytes:
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(MEMBER)))
        content = path.read_bytes()
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError):
        raise DataWrong(f"the package {PACKAGE} is not installed; run `{INSTALL}`") from None
    if hashlib.sha256(content).hexdigest() != MEMBER_SHA256:
        raise DataWrong(f"{path} is not the file of {PACKAGE} {VERSION}; run `{INSTALL}`")
    return content


def _frame(source: bytes) -> tuple[pl.DataFrame, list[str]]:
    raw = np.load(io.BytesIO(source), allow_pickle=True).item()
    classes = [str(name) for name in raw["y_labels"]]
    frames = []
    for values, label, subject, side in zip(raw["X"], raw["y"], raw["subject"], raw["side"], strict=True):
        host = f"subject-{int(subject):02}"
        frames.append(
            pl.DataFrame(values.astype(np.float32), schema=raw["X_labels"]).select(
                pl.lit(host).alias("host"),
                pl.lit(f"{host}-{classes[label]}-{SIDES[int(side)]}").alias("recording"),
                pl.Series("t", np.arange(len(values)) / RATE_HZ),
                pl.lit(classes[label]).alias("label"),
                pl.all(),
            )
        )
    return pl.concat(frames).sort("recording", "t"), classes
