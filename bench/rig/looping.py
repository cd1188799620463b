"""What the training loop costs beside its tensors' work: `python -m bench.rig.looping MODEL ROUNDS` prints JSON.

Both train the same network on the same windows for the same steps; the bare one does no more than any loop has to.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from statistics import median

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1"))

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fleet_trainer.data import Dataset
from fleet_trainer.hyper import NetHyper
from fleet_trainer.job import Job
from fleet_trainer.layers import Standardise
from fleet_trainer.models import MODELS
from fleet_trainer.spec import JobSpec
from fleet_trainer.task import Shape, Task
from fleet_trainer.windows import Windows

WINDOWS, SAMPLES, CHANNELS, CLASSES = 1760, 100, 6, 7
EPOCHS = 2


def task(model: str) -> Task:
    rng = np.random.default_rng(0)
    spec = {"schema": 1, "job_id": "0" * 16, "model": model, "mode": "oracle", "hyper": {}, "seed": 0}
    spec |= {"split_recipe": "host", "train_hosts": ["a"], "n_resamples": 1}
    names = tuple("abcdefghijklm")
    dataset = Dataset("noise", 50.0, names[:CLASSES], names[:CHANNELS], (), (), "")
    train = Windows(
        rng.normal(size=(WINDOWS * SAMPLES, CHANNELS)).astype(np.float32),
        np.arange(WINDOWS) * SAMPLES,
        SAMPLES,
        rng.integers(0, CLASSES, WINDOWS),
        ["a"] * WINDOWS,
        ["a"] * WINDOWS,
        np.zeros(WINDOWS),
    )
    return Task(Job({}), JobSpec.model_validate(spec), dataset, train)


def bare(hyper: NetHyper, task: Task) -> None:
    found = hyper.inputs(task.train, ())
    inputs, y = torch.from_numpy(found[:]), torch.from_numpy(task.train.y)
    network = nn.Sequential(
        Standardise(found, hyper.input_limit), hyper.build(Shape(found.shape[1:], CLASSES))
    )
    steps = WINDOWS // hyper.batch_size
    optimiser = torch.optim.AdamW(network.parameters(), hyper.lr, weight_decay=hyper.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, hyper.lr, total_steps=EPOCHS * steps + 1)
    for _ in range(EPOCHS):
        order = torch.randperm(WINDOWS)
        for step in range(steps):
            rows = order[step * hyper.batch_size : (step + 1) * hyper.batch_size]
            loss = functional.cross_entropy(network(inputs[rows]), y[rows], label_smoothing=0.1)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), hyper.clip_norm)
            optimiser.step()
            schedule.step()


def main(model: str, rounds: int) -> dict[str, float]:
    """CPU seconds, medians of rounds in turn, after one that warms up."""
    hyper, given = MODELS[model].model_validate({"epochs": EPOCHS}), task(model)
    assert isinstance(hyper, NetHyper)
    took: dict[str, list[float]] = {"loop": [], "bare": []}
    for _ in range(rounds + 1):
        for name, work in (("loop", hyper.fit), ("bare", lambda given: bare(hyper, given))):
            began = time.process_time()
            work(given)
            took[name].append(time.process_time() - began)
    return {name: median(times[1:]) for name, times in took.items()}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # the loop says what it does
        told = main(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(told))
