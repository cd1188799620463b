"""Who trains and who tests. Recordings are split here, windows are cut later, so no split can leak."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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
    return result


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
        raise DataWrong(
            f"train_hosts leaves no host of {dataset.name} to {left} on; it has {', '.join(sorted(known))}"
        )
    return Split(train, test, "host")


def _by_sample(dataset: Dataset, seed: int) -> Split:
    """Whole recordings at random, a fifth of every class for the test."""
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
            train.append(replace(recording, values=recording.values[:cut]))
            test.append(replace(recording, values=recording.values[cut:], start=recording.start + cut))
    return Split(train, test, "recording")
