"""data.parquet read piece by piece, so that a set larger than memory can be read at all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from fleet_trainer.errors import DataWrong
from fleet_trainer.store import allocate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

KEYS = ("host", "recording", "t", "label")
ROWS = 1 << 18  # in one piece


class Stretch(NamedTuple):
    """Rows behind each other that agree in these columns."""

    recording: str
    host: str
    label: str | None
    begin: int
    end: int


class Table(NamedTuple):
    values: NDArray[np.float32]  # (rows, channels); NaN where a value is missing
    stretches: list[Stretch]  # of all rows, in order; each recording's rows are together and in time's order


class Unsorted(Exception):
    pass


def read(path: Path, channels: Sequence[str], *, labelled: bool = True) -> Table:
    """Rows may come in any order; those that are not in order are sorted first, which takes memory for them all.
    When not `labelled`, labels are passed over.

    DataWrong, PolarsError, OSError.
    """
    keys = [key for key in KEYS if key != "label" or labelled]
    try:
        return _read(path, path, channels, keys)
    except Unsorted:
        with tempfile.TemporaryDirectory() as folder:
            ordered = Path(folder) / path.name
            pl.scan_parquet(path).select(*keys, *channels).sort(
                "recording", "t", maintain_order=True
            ).sink_parquet(ordered)
            return _read(ordered, path, channels, keys)


def _read(source: Path, path: Path, channels: Sequence[str], keys: Sequence[str]) -> Table:
    rows = pl.scan_parquet(source).select(pl.len()).collect().item()
    values = allocate(rows, len(channels))
    stretches: list[Stretch] = []
    last_t = None
    for begin, piece in _pieces(source, channels, keys, rows):
        if piece.select(pl.any_horizontal(pl.col("host", "recording", "t").is_null().any())).item():
            raise DataWrong(f"{path} has a row without host, recording or t")
        part = piece.select(channels).to_numpy()
        if np.isinf(part).any():
            name = channels[int(np.isinf(part).any(0).argmax())]
            raise DataWrong(
                f"{path}: channel {name} has an infinite value; leave it empty where it is unknown"
            )
        values[begin : begin + len(piece)] = part
        found = list(_stretches(piece, begin))
        continues = bool(stretches) and found[0].recording == stretches[-1].recording
        if not _is_ordered(piece) or (continues and piece["t"][0] < last_t):
            raise Unsorted
        if stretches and found[0][:3] == stretches[-1][:3]:
            found[0] = found[0]._replace(begin=stretches.pop().begin)
        stretches += found
        last_t = piece["t"][-1]
    names = [
        s.recording for n, s in enumerate(stretches) if n == 0 or s.recording != stretches[n - 1].recording
    ]
    if len(names) > len(set(names)):
        raise Unsorted
    return Table(values, stretches)


def _pieces(
    source: Path, channels: Sequence[str], keys: Sequence[str], rows: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    label = pl.col("label") if "label" in keys else pl.lit(None).alias("label")
    text = [key.cast(pl.String) for key in (pl.col("host"), pl.col("recording"), label)]
    numbers = [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in channels]
    frame = pl.scan_parquet(source)
    for begin in range(0, rows, ROWS):
        yield begin, frame.slice(begin, ROWS).select(*text, pl.col("t"), *numbers).collect()


def _is_ordered(piece: pl.DataFrame) -> bool:
    same = pl.col("recording") == pl.col("recording").shift()
    back = (pl.col("t") < pl.col("t").shift()) & same
    return not piece.select(back.any()).item()


def _stretches(piece: pl.DataFrame, offset: int) -> Iterator[Stretch]:
    keys = ("recording", "host", "label")
    changes = [pl.col(key).ne_missing(pl.col(key).shift()) for key in keys]
    starts = piece.select(pl.any_horizontal(changes).arg_true()).to_series().to_list()
    starts = sorted({0, *starts})
    for begin, end in zip(starts, [*starts[1:], len(piece)], strict=True):
        recording, host, label = (piece[key][begin] for key in keys)
        yield Stretch(recording, host, label, offset + begin, offset + end)
