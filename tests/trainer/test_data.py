from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from fleet_trainer.data import load
from fleet_trainer.errors import DataWrong
from tests.trainer.synthetic import write_dataset


def test_realistic_never_sees_a_privileged_channel(data: Path):
    realistic, oracle = load(data, "realistic"), load(data, "oracle")
    assert realistic.channels == ("wave", "noise", "clock")
    assert oracle.channels == ("wave", "noise", "clock", "spy")
    assert {r.values.shape[1] for r in realistic.recordings} == {3}


def test_realistic_does_not_even_read_it(tmp_path: Path):
    write_dataset(tmp_path)
    frame = pl.read_parquet(tmp_path / "data.parquet")
    frame.with_columns(spy=pl.lit(float("inf"))).write_parquet(tmp_path / "data.parquet")
    assert load(tmp_path, "realistic").channels == ("wave", "noise", "clock")
    with pytest.raises(DataWrong, match="channel spy has an infinite value"):
        load(tmp_path, "oracle")


def test_a_vector_needs_all_its_axes(tmp_path: Path):
    write_dataset(tmp_path, vectors=[["wave", "noise"], ["clock", "spy"]])
    assert load(tmp_path, "realistic").vectors == ((0, 1),)
    assert load(tmp_path, "oracle").vectors == ((0, 1), (2, 3))


def test_recordings_keep_their_own_lengths_and_time_order(tmp_path: Path):
    write_dataset(tmp_path)
    frame = pl.read_parquet(tmp_path / "data.parquet")
    frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "data.parquet")
    recordings = load(tmp_path, "oracle").recordings
    assert {len(r.values) for r in recordings} == {60, 67, 74, 81, 88, 95}
    assert all((r.values[:, 2] == range(len(r.values))).all() for r in recordings)


def test_classes_keep_the_order_of_dataset_json(tmp_path: Path):
    write_dataset(tmp_path, classes=["slow", "middle", "fast", "never"])
    assert load(tmp_path, "oracle").classes == ("slow", "middle", "fast", "never")


WRONG = [
    (pl.lit("x").alias("label"), {}, "has 1 label"),
    (pl.col("noise").cast(pl.String), {}, "channel noise is String, not a number"),
    (pl.lit(None, pl.String).alias("label"), {}, "has 0 label"),
    (pl.when(pl.col("t") > 1).then(pl.col("host")), {}, "without host"),
    (
        pl.when(pl.col("t") > 1).then(pl.lit("a")).otherwise(pl.lit("b")).alias("host"),
        {},
        "2 hosts",
    ),
    (pl.col("noise"), {"classes": ["slow", "fast"]}, "has the label middle"),
    (pl.col("noise"), {"privileged": ["speed"]}, "calls speed privileged"),
    (pl.col("noise"), {"privileged": ["wave", "noise", "clock", "spy"]}, "no channel left in realistic mode"),
    (pl.col("noise"), {"rate_hz": 0}, "rate_hz: Input should be greater than 0"),
]


@pytest.mark.parametrize(("column", "info", "words"), WRONG)
def test_wrong_data_says_what_and_where(tmp_path: Path, column: pl.Expr, info, words):
    write_dataset(tmp_path, **info)
    frame = pl.read_parquet(tmp_path / "data.parquet").with_columns(column)
    frame.write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataWrong) as wrong:
        load(tmp_path, "realistic")
    assert words in str(wrong.value)


def test_missing_and_broken_files_are_named(tmp_path: Path):
    with pytest.raises(DataWrong, match="FLEET_DATA is not set"):
        load(None, "oracle")
    with pytest.raises(DataWrong, match=r"there is no data\.parquet in .*fleet-train convert watch"):
        load(tmp_path, "oracle")
    write_dataset(tmp_path)
    (tmp_path / "data.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataWrong, match="not a readable Parquet file"):
        load(tmp_path, "oracle")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataWrong, match="is not JSON"):
        load(tmp_path, "oracle")
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(DataWrong, match="rate_hz: Field required"):
        load(tmp_path, "oracle")


def test_a_missing_key_column_is_named(tmp_path: Path):
    write_dataset(tmp_path)
    pl.read_parquet(tmp_path / "data.parquet").drop("host").write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataWrong, match="has no column host"):
        load(tmp_path, "oracle")
