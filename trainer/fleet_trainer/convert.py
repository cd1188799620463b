"""A data set written as a whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_trainer.artifact import write_json
from fleet_trainer.data import DATA_FILE, INFO_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl


def write_dataset(out: Path, frame: pl.DataFrame, info: Mapping[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{DATA_FILE}.tmp"
    frame.write_parquet(partial)
    partial.replace(out / DATA_FILE)
    partial = out / f"{INFO_FILE}.tmp"
    write_json(partial, info, sort_keys=False)
    partial.replace(out / INFO_FILE)  # last: its presence says that the set is complete
