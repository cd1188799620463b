"""No split leaks: what trains is disjoint from what tests, down to the sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fleet_trainer.data import Dataset, load
from fleet_trainer.errors import DataWrong
from fleet_trainer.models.gbt import Gbt
from fleet_trainer.splits import split
from fleet_trainer.windows import cut
from tests.trainer.synthetic import HOSTS, RATE_HZ, job_spec

CLOCK = 2  # the channel that counts a recording's samples


@pytest.fixture
def dataset(data: Path) -> Dataset:
    return load(data, "oracle")


def test_host_trains_on_the_named_hosts_and_tests_on_all_others(dataset):
    parts = split(dataset, job_spec(train_hosts=["cem", "ann"]), 0)
    assert {r.host for r in parts.train} == {"ann", "cem"}
    assert {r.host for r in parts.test} == {"bob", "dee"}
    assert parts.unit == "host"


def test_sample_takes_whole_recordings_of_every_class(dataset):
    parts = split(dataset, job_spec(split_recipe="sample"), 0)
    train, test = {r.name for r in parts.train}, {r.name for r in parts.test}
    assert not train & test
    assert len(train | test) == 24
    assert [sum(r.label == label for r in parts.test) for label in range(3)] == [2, 2, 2]
    assert parts.unit == "recording"


def test_sample_hangs_on_the_seed_alone(dataset):
    def tested(seed: int) -> set[str]:
        return {r.name for r in split(dataset, job_spec(split_recipe="sample"), seed).test}

    assert tested(1) == tested(1)
    assert len({frozenset(tested(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("decimation", [1, 2, 3])
def test_no_window_crosses_the_time_cut(dataset, decimation):
    parts = split(dataset, job_spec(split_recipe="time"), 0)
    hyper = Gbt(decimation=decimation, window_seconds=2.0, stride_seconds=0.3)
    train, test = cut(parts.train, RATE_HZ, hyper), cut(parts.test, RATE_HZ, hyper)
    for recording in dataset.recordings:
        boundary = round(0.8 * len(recording.values))
        before = train[np.flatnonzero([name == recording.name for name in train.recording])][..., CLOCK]
        after = test[np.flatnonzero([name == recording.name for name in test.recording])][..., CLOCK]
        assert before.size
        assert after.size
        assert before.max() < boundary <= after.min()


def test_windows_know_where_they_begin(dataset):
    windows = cut(dataset.recordings, RATE_HZ, Gbt(decimation=1, window_seconds=2.0, stride_seconds=1.5))
    assert (windows[:][:, 0, CLOCK] / RATE_HZ == windows.start_seconds.astype("float32")).all()
    assert windows.shape[1:] == (20, 4)


def test_decimation_averages(dataset):
    windows = cut(dataset.recordings, RATE_HZ, Gbt(decimation=4, window_seconds=2.0))
    assert windows[:1][0, :, CLOCK].tolist() == [1.5, 5.5, 9.5, 13.5, 17.5]


def test_a_recording_shorter_than_the_window_is_padded_with_its_last_sample(dataset):
    windows = cut(dataset.recordings[:1], RATE_HZ, Gbt(decimation=1, window_seconds=8.0))
    assert windows.shape == (1, 80, 4)
    assert windows[:1][0, 60:, CLOCK].tolist() == [59.0] * 20


@pytest.mark.parametrize("hosts", [["elliott-thinkpad"], [], list(HOSTS)])
def test_train_hosts_that_leave_nothing_are_refused_with_the_hosts_there_are(dataset, hosts):
    with pytest.raises(DataWrong, match="it has ann, bob, cem, dee"):
        split(dataset, job_spec(train_hosts=hosts), 0)
