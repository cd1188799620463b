"""Gaps, rare classes, unlabelled and changing labels, sets larger than memory, wrong digests, full disks."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fleet_protocol.archive import content_digest
from fleet_trainer import cli
from fleet_trainer.data import UNLABELLED, Run, load
from fleet_trainer.errors import DataWrong
from fleet_trainer.features import features
from fleet_trainer.job import job
from fleet_trainer.models.gbt import Gbt
from fleet_trainer.splits import split
from fleet_trainer.windows import cut, moments
from tests.trainer.synthetic import (
    CUT,
    EVERY_MODEL,
    TINY,
    contents,
    environment,
    job_spec,
    spec_json,
    train_here,
    write_dataset,
)

HYPER = Gbt(decimation=1, window_seconds=2.0, stride_seconds=1.0)


def rewrite(folder: Path, *columns: pl.Expr) -> Path:
    write_dataset(folder)
    frame = pl.read_parquet(folder / "data.parquet").with_columns(*columns)
    frame.write_parquet(folder / "data.parquet")
    return folder


def of(recordings: list[str], column: str, value: str | None) -> pl.Expr:
    return pl.when(pl.col("recording").is_in(recordings)).then(value).otherwise(pl.col(column)).alias(column)


def test_gaps_are_filled_between_neighbours_and_at_the_ends(tmp_path: Path):
    gap = pl.when(pl.col("clock").is_in([0, 1, 5, 6])).then(None).otherwise(pl.col("clock")).alias("clock")
    windows = cut(load(rewrite(tmp_path, gap), "realistic").recordings, 10.0, HYPER)
    assert windows[:1][0, :8, 2].tolist() == [2, 2, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_every_model_takes_a_channel_that_is_missing_or_never_varies(tmp_path: Path, model):
    data = rewrite(tmp_path / "data", of(["r00", "r02"], "noise", None), pl.lit(7.1).alias("clock"))
    out = train_here(tmp_path, data, job_spec(model))
    probabilities = pl.read_parquet(out / "predictions.parquet").select("^p_.*$").to_numpy()
    assert np.isfinite(probabilities).all()


def test_what_does_not_vary_or_is_not_there_has_no_say(tmp_path: Path):
    data = rewrite(tmp_path, pl.lit(7.1).alias("clock"), pl.lit(None, pl.Float32).alias("noise"))
    windows = cut(load(data, "realistic").recordings, 10.0, HYPER)
    _, deviation = moments(windows)
    assert np.isinf(deviation).tolist() == [False, True, True]
    table = features(windows, ())
    assert 0 < np.isnan(table).all(0).sum() == np.isnan(table).any(0).sum() < table.shape[1]


def test_windows_are_cut_within_stretches_of_one_label(tmp_path: Path):
    changes = (
        pl.when(pl.col("clock") < 25).then(pl.lit("slow")).when(pl.col("clock") < 30).then(None)
    ).otherwise(pl.lit("fast"))
    dataset = load(rewrite(tmp_path, changes.alias("label")), "realistic")
    first = dataset.recordings[0]
    assert first.runs == (Run(0, 25, 1), Run(25, 30, UNLABELLED), Run(30, 60, 0))
    windows = cut([first], 10.0, HYPER)
    assert [(label, start) for label, start in zip(windows.y, windows.start_seconds, strict=True)] == [
        (1, 0.0),
        (0, 3.0),
        (0, 4.0),
    ]
    assert first.part(20, 40).runs == (Run(0, 5, 1), Run(5, 10, UNLABELLED), Run(10, 20, 0))


def test_only_pretraining_sees_unlabelled_stretches_and_never_those_of_test_hosts(tmp_path: Path):
    data = rewrite(tmp_path, of(["r00", "r02", "r05"], "label", None))  # of ann, cem, bob
    parts = split(load(data, "realistic"), job_spec(), 0)
    labelled = cut(parts.train, 10.0, HYPER)
    all_windows = cut(parts.train, 10.0, HYPER, unlabelled=True)
    assert (labelled.y >= 0).all()
    assert {*all_windows.recording} - {*labelled.recording} == {"r00", "r05"}
    assert (all_windows[: len(labelled)] == labelled[:]).all()
    assert (all_windows.y[len(labelled) :] == UNLABELLED).all()
    tested = split(load(data, "realistic"), job_spec(split_recipe="sample"), 0).test
    assert not {"r00", "r02", "r05"} & {recording.name for recording in tested}


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_rare_classes_may_weigh_as_much_as_others(tmp_path: Path, data: Path, model):
    hyper = TINY[model] | {"class_weight": "balanced"}
    assert contents(train_here(tmp_path, data, job_spec(model, hyper=hyper)))


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_on_disk_as_in_memory_the_bits_are_the_same(
    tmp_path: Path, data: Path, model, monkeypatch: pytest.MonkeyPatch
):
    held = contents(train_here(tmp_path / "held", data, job_spec(model)))
    monkeypatch.setenv("FLEET_ARRAY_MIB", "0")
    assert contents(train_here(tmp_path / "streamed", data, job_spec(model))) == held


def test_memory_does_not_grow_with_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = 1 << 19  # 8 MiB of values, twice as much in windows
    frame = pl.select(pl.int_range(rows).alias("t")).with_columns(
        pl.format("r{}", pl.col("t") // (rows // 4)).alias("recording"),
        pl.format("h{}", pl.col("t") // (rows // 4)).alias("host"),
        pl.format("c{}", pl.col("t") // (rows // 8) % 2).alias("label"),
        *(pl.lit(0.5, pl.Float32).alias(name) for name in "abcd"),
    )
    frame.write_parquet(tmp_path / "data.parquet")
    (tmp_path / "dataset.json").write_text(json.dumps({"rate_hz": 10.0}))
    monkeypatch.setenv("FLEET_ARRAY_MIB", "1")
    tracemalloc.start()
    try:
        windows = cut(load(tmp_path, "oracle").recordings, 10.0, Gbt(decimation=1))
        loaded = tracemalloc.get_traced_memory()[1]
        moments(windows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert windows.shape[0] * windows.length * 16 > 15 * 2**20
    assert isinstance(windows.samples, np.memmap)
    assert loaded < 4 * 2**20
    assert peak < 32 * 2**20  # of the blocks, whatever the set's size


def test_the_digest_is_the_manifests_and_a_wrong_one_is_refused(tmp_path: Path):
    data = write_dataset(tmp_path / "data")
    assert load(data, "oracle", content_digest(data)).sha256 == content_digest(data)
    before = content_digest(data)
    (data / "README").write_text("not read, but part of what was pushed")
    assert load(data, "oracle", content_digest(data)).sha256 == before
    with pytest.raises(DataWrong, match="is not the data set of the job"):
        load(data, "oracle", "0" * 64)
    out = train_here(tmp_path, data, job_spec(dataset={"name": "sines", "sha256": before}))
    assert json.loads((out / "job.json").read_text())["data"]["sha256"] == before


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            pl.lit("ann").alias("host"),
            "leaves no host of sines to test on.*with one host, split by sample or time",
        ),
        (
            pl.when(pl.col("host") == "ann").then(pl.lit("slow")).otherwise(pl.col("label")).alias("label"),
            "is to be trained on has slow alone",
        ),
        (
            pl.when(pl.col("host") == "ann").then(pl.col("label")).alias("label"),
            "nothing that is to be tested on has a label",
        ),
    ],
)
def test_one_host_one_class_and_nothing_to_test_are_refused(tmp_path: Path, column, words):
    dataset = load(rewrite(tmp_path, column), "realistic")
    with pytest.raises(DataWrong, match=words):
        split(dataset, job_spec(train_hosts=["ann"]), 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_sentence(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    environ = environment(tmp_path, data)
    Path(environ["FLEET_JOB_SPEC"]).write_text(json.dumps(spec_json(hyper={**CUT, "trees": 1})))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").symlink_to("/dev/full")
    for name, value in (os.environ | environ).items():  # the command line sets more; all is put back
        monkeypatch.setenv(name, value)
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        monkeypatch.setenv(pool, "1")
    monkeypatch.setattr("sys.argv", ["fleet-train", "run"])
    job.cache_clear()
    with pytest.raises(SystemExit) as left:
        cli.main()
    job.cache_clear()
    assert left.value.code == 1
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
