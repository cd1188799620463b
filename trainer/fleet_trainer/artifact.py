"""The output folder: the same bytes for the same job. No time, path or machine is written here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from fleet_trainer import TRAINER_VERSION
from fleet_trainer.bundle import Trained, TrainedOn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fleet_trainer.data import Dataset
    from fleet_trainer.hyper import Hyper
    from fleet_trainer.spec import JobSpec
    from fleet_trainer.splits import Split
    from fleet_trainer.windows import Windows


def write_json(path: Path, value: Mapping[str, object], *, sort_keys: bool = True) -> None:
    text = json.dumps(value, indent=1, sort_keys=sort_keys, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def describe(spec: JobSpec, hyper: Hyper, dataset: Dataset, split: Split) -> Trained:
    return Trained(
        trainer=TRAINER_VERSION,
        job_id=spec.job_id,
        model=spec.model,
        mode=spec.mode,
        hyper=hyper.model_dump(mode="json"),
        split_recipe=spec.split_recipe,
        seed=spec.seed,
        n_resamples=spec.n_resamples,
        data=TrainedOn(
            name=dataset.name,
            sha256=dataset.sha256,
            rate_hz=dataset.rate_hz,
            channels=list(dataset.channels),
            vectors=[[dataset.channels[axis] for axis in axes] for axes in dataset.vectors],
            classes=list(dataset.classes),
            train_hosts=sorted({recording.host for recording in split.train}),
            test_hosts=sorted({recording.host for recording in split.test}),
            train_recordings=len(split.train),
            test_recordings=len(split.test),
        ),
    )


def write_predictions(
    path: Path,
    windows: Windows,
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    *,
    labelled: bool = True,
) -> None:
    """One row per window: where it is, what it is if that is known, and the probability of every class."""
    names = pl.Series(classes)
    pl.DataFrame(
        {
            "host": windows.host,
            "recording": windows.recording,
            "start_seconds": windows.start_seconds,
            **({"label": names.gather(windows.y)} if labelled else {}),
            "predicted": names.gather(probabilities.argmax(1)),
            **{f"p_{name}": probabilities[:, number] for number, name in enumerate(classes)},
        }
    ).write_parquet(path)
