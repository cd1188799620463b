"""UCR and UEA files keep their published split, whatever the lengths of their cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fleet_trainer.data import load
from fleet_trainer.errors import DataWrong
from fleet_trainer.models.gbt import Gbt
from fleet_trainer.splits import split
from fleet_trainer.ts import convert
from fleet_trainer.windows import cut
from tests.trainer.synthetic import job_spec

TRAIN = """# a remark
@problemName Taps
@timeStamps false
@univariate false
@classLabel true soft hard
@data
1,2,3:4,?,6:soft
7,8:9,10:hard
"""
TEST = TRAIN.replace("7,8:9,10:hard", "1:2:hard\n5,5,5,5:1,1:soft")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "Taps_TRAIN.ts", tmp_path / "Taps_TEST.ts"
    for path, text in zip(paths, (TRAIN, TEST), strict=True):
        path.write_text(text)
    return paths


def test_the_published_split_is_by_host_and_a_window_may_be_a_whole_recording(tmp_path: Path, files):
    assert "wrote 5 recordings of 2 channels" in convert(files[0], files[1], tmp_path / "out", 2.0)
    dataset = load(tmp_path / "out", "realistic")
    assert (dataset.name, dataset.rate_hz, dataset.classes) == ("Taps", 2.0, ("hard", "soft"))
    parts = split(dataset, job_spec(train_hosts=["train"]), 0)
    hyper = Gbt(decimation=1, window_seconds=2.0, stride_seconds=2.0)
    train, test = cut(parts.train, 2.0, hyper), cut(parts.test, 2.0, hyper)
    assert (len(train), len(test), train.length) == (2, 3, 4)
    assert train[:1][0].tolist() == [[1, 4], [2, 5], [3, 6], [3, 6]]  # the gap filled, the end repeated
    assert train[1:2][0].tolist() == [[7, 9], [8, 10], [8, 10], [8, 10]]
    assert test[2:3][0, :, 1].tolist() == [1, 1, 1, 1]  # a channel shorter than the others


def test_one_file_with_one_channel_is_a_set_too(tmp_path: Path):
    path = tmp_path / "one.ts"
    path.write_text("@problemName One\n@classLabel true 1 2\n@data\n1,2:1\n?,4:2\n")
    convert(path, None, tmp_path / "out", 1.0)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["classes"] == ["1", "2"]
    values = load(tmp_path / "out", "oracle").recordings[1].values
    np.testing.assert_array_equal(values, [[np.nan], [4]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@problemName X\n@timeStamps true\n", "samples with time stamps are not read"),
        ("@classLabel false\n", "no class labels to learn"),
        ("@targetLabel true\n", "no class labels to learn"),
        ("@data\n1,2:3,x:soft\n", r"line 2: could not convert string to float: '?x"),
        ("@data\n1,2,3\n", "line 2: a case is its channels and its label"),
        ("@data\n1:2:a\n1:b\n", "the cases have 1 to 2 channels"),
        ("", "has no case; is it a .ts file"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text, words):
    (tmp_path / "x.ts").write_text(text)
    with pytest.raises(DataWrong, match=words):
        convert(tmp_path / "x.ts", None, tmp_path / "out", 1.0)
    assert not (tmp_path / "out").exists()
