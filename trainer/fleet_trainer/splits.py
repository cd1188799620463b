"""Who trains and who tests. Recordings are split here, windows are cut later, so no split can leak."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet_trainer.data import UNLABELLED
from fleet_trainer.errors import DataWrong

if TYPE_CHECKING:
    from fleet_trainer.data import Dataset, Recording
    from fleet_trainer.spec import JobSpec

TEST_SHARE = 0.2


class Split(NamedTuple):
    train: list[Recording]
    test: list[Recording]
    unit: str  # what is independent in the test set, and so is resampled: "host" or "recording"


def split(dataset: Dataset, spec: JobSpec, seed: int) -> Split:
    if spec.split_recipe == "host":
        result = _by_host(dataset, spec.train_hosts)
    else:
        result = _by_sample(dataset, seed) if spec.split_recipe == "sample" else _by_time(dataset)
    if not (result.train and result.test):
        raise DataWrong(f"{dataset.name} has too few recordings for a {spec.split_recipe} split")
    learnt, tested = _labels(result.train), _labels(result.test)
    if len(learnt) < 2:
        names = dataset.classes[learnt.pop()] if learnt else "no label"
        raise DataWrong(f"what is to be trained on has {names} alone; there is nothing to tell apart")
    if not tested:
        raise DataWrong(f"nothing that is to be tested on has a label under a {spec.split_recipe} split")
    return result


def _labels(recordings: list[Recording]) -> set[int]:
    return {run.label for recording in recordings for run in recording.runs} - {UNLABELLED}


def _by_host(dataset: Dataset, train_hosts: list[str]) -> Split:
    known = {recording.host for recording in dataset.recordings}
    for host in train_hosts:
        if host not in known:
            raise DataWrong(
                f"train_hosts names {host}, which was not recorded in {dataset.name} (train_hosts are hosts of the"
                f" data, not machines of the fleet); it has {', '.join(sorted(known))}"
            )
    train = [recording for recording in dataset.recordings if recording.host in train_hosts]
    test = [recording for recording in dataset.recordings if recording.host not in train_hosts]
    if not train or not test:
        left = "train" if not train else "test"
        other = "; with one host, split by sample or time" if len(known) == 1 else ""
        raise DataWrong(
            f"train_hosts leaves no host of {dataset.name} to {left} on; it has {', '.join(sorted(known))}{other}"
        )
    return Split(train, test, "host")


def _by_sample(dataset: Dataset, seed: int) -> Split:
    """Whole recordings at random, a fifth of every class for the test; those without any label are to train on."""
    rng = np.random.default_rng(seed)
    tested: set[str] = set()
    for label in range(len(dataset.classes)):
        names = [recording.name for recording in dataset.recordings if recording.label == label]
        tested.update(rng.permutation(names)[: round(TEST_SHARE * len(names))].tolist())
    train = [recording for recording in dataset.recordings if recording.name not in tested]
    return Split(train, [r for r in dataset.recordings if r.name in tested], "recording")


def _by_time(dataset: Dataset) -> Split:
    """The last fifth of every recording for the test."""
    train, test = [], []
    for recording in dataset.recordings:
        cut = round((1 - TEST_SHARE) * len(recording.values))
        if 0 < cut < len(recording.values):
            train.append(recording.part(0, cut))
            test.append(recording.part(cut, len(recording.values)))
    return Split(train, test, "recording")
