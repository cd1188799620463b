"""Fitting gbt: LightGBM's own training call, with progress, and a stop between two rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightgbm
import numpy as np

from fleet_trainer.errors import Stopped
from fleet_trainer.features import features
from fleet_trainer.job import say
from fleet_trainer.task import derived_seed

if TYPE_CHECKING:
    from pathlib import Path

    from lightgbm.callback import CallbackEnv
    from numpy.typing import NDArray

    from fleet_trainer.models.gbt import Gbt
    from fleet_trainer.task import Task
    from fleet_trainer.windows import Windows


class Boosted:
    def __init__(self, booster: lightgbm.Booster, vectors: tuple[tuple[int, ...], ...]) -> None:
        self._booster = booster
        self._vectors = vectors

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        return np.asarray(self._booster.predict(features(windows, self._vectors)), np.float32)

    def save(self, folder: Path) -> None:
        (folder / "model.txt").write_text(self._booster.model_to_string(), encoding="utf-8", newline="\n")


def fit(hyper: Gbt, task: Task) -> Boosted:
    """Stopped when asked to stop: a fit takes seconds, so it starts over instead of resuming."""
    job = task.job
    vectors = task.dataset.vectors
    every = max(hyper.trees // 20, 1)

    def report(env: CallbackEnv) -> None:
        done = env.iteration + 1
        if job.should_stop:
            raise Stopped(f"stopped after {done} of {hyper.trees} rounds; gbt is short and starts over")
        job.progress(done, hyper.trees)
        if done % every == 0 or done == hyper.trees:
            loss, error = (entry[2] for entry in env.evaluation_result_list or ())
            job.log(done, loss=loss, accuracy=1 - error)
            say(f"round {done}/{hyper.trees}  loss {loss:.4f}  accuracy {1 - error:.4f}")

    job.phase("train")
    weights = hyper.class_weights(task)
    train = lightgbm.Dataset(
        features(task.train, vectors),
        task.train.y,
        weight=None if weights is None else weights[task.train.y],
    )
    booster = lightgbm.train(
        _parameters(hyper, task),
        train,
        num_boost_round=hyper.trees,
        valid_sets=[train],
        callbacks=[report],
    )
    return Boosted(booster, vectors)


def _parameters(hyper: Gbt, task: Task) -> dict[str, object]:
    return {
        "objective": "multiclass",
        "num_class": len(task.dataset.classes),
        "metric": ["multi_logloss", "multi_error"],
        "learning_rate": hyper.lr,
        "num_leaves": hyper.leaves,
        "max_depth": hyper.depth,
        "min_data_in_leaf": hyper.min_leaf,
        "bagging_fraction": hyper.row_fraction,
        "bagging_freq": 1,
        "feature_fraction": hyper.feature_fraction,
        "lambda_l2": hyper.l2,
        "seed": derived_seed(task.spec.seed, "trees"),
        "num_threads": hyper.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
