"""A reference's fit: `python -m bench.rig.rocket SPLIT MODE NAME HOST,HOST,… DATA TARGET` writes its predictions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from fleet_trainer.data import load
from fleet_trainer.models import MODELS
from fleet_trainer.spec import JobSpec
from fleet_trainer.splits import split
from fleet_trainer.task import derived_seed
from fleet_trainer.windows import cut


def classifier(name: str) -> Any:
    """Any: aeon has no types, and need not be installed where this is checked."""
    names = {"minirocket": "MiniRocketClassifier", "hydra": "HydraClassifier"}
    return getattr(importlib.import_module("aeon.classification.convolution_based"), names[name])(
        random_state=0, n_jobs=1
    )


def main(
    recipe: str, mode: Literal["realistic", "oracle"], name: str, hosts: str, data: Path, target: Path
) -> None:
    spec = {
        "schema": 1,
        "job_id": "0" * 16,
        "model": "cnn",
        "mode": mode,
        "hyper": {},
        "split_recipe": recipe,
    }
    job = JobSpec.model_validate(spec | {"train_hosts": hosts.split(","), "seed": 0, "n_resamples": 1})
    dataset, hyper = load(data, mode), MODELS["cnn"]()
    parts = split(dataset, job, derived_seed(0, "split"))
    train, test = (cut(recordings, dataset.rate_hz, hyper) for recordings in parts[:2])
    model = classifier(name)
    every = slice(None)
    model.fit(np.ascontiguousarray(train[every].transpose(0, 2, 1)), train.y)
    predicted = model.predict(np.ascontiguousarray(test[every].transpose(0, 2, 1))).astype(int)
    names = pl.Series(dataset.classes)
    columns = {"label": names.gather(test.y), "predicted": names.gather(predicted)}
    frame = pl.DataFrame({"host": test.host, "recording": test.recording, **columns})
    frame.write_parquet(target / "predictions.parquet")


if __name__ == "__main__":
    recipe, mode, name, hosts, data, target = sys.argv[1:]
    main(recipe, "oracle" if mode == "oracle" else "realistic", name, hosts, Path(data), Path(target))
