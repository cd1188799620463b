"""A small data set with known structure, and the ways to run a job on it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fleet_trainer.job import Job
from fleet_trainer.spec import JobSpec

RATE_HZ = 10.0
HOSTS = ("ann", "bob", "cem", "dee")
LABELS = ("slow", "middle", "fast")
CUT = {"decimation": 1, "window_seconds": 2.0, "stride_seconds": 1.0}
TINY_NET = {**CUT, "epochs": 2, "batch_size": 16, "width": 8, "depth": 1}
TINY: dict[str, dict[str, float]] = {
    "gbt": {**CUT, "trees": 5, "min_leaf": 2},
    "mlp": TINY_NET,
    "cnn": TINY_NET,
    "gru": TINY_NET,
    "lstm": TINY_NET,
    "transformer": {**CUT, "epochs": 2, "batch_size": 16, "heads": 2, "head_width": 4, "depth": 1},
    "transformer_ssl": {**CUT, "epochs": 2, "pretrain_epochs": 2, "heads": 2, "head_width": 4, "depth": 1},
}
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: networks are not tested"
)
TORCH_FREE = ("gbt",)
EVERY_MODEL = [name if name in TORCH_FREE else pytest.param(name, marks=needs_torch) for name in TINY]


def write_dataset(folder: Path, **info: object) -> Path:
    """24 recordings of 4 hosts: a sine whose frequency is the class, noise, and a clock counting samples."""
    rng = np.random.default_rng(0)
    parts = []
    for number in range(24):
        host, label = HOSTS[number % 4], LABELS[number % 3]
        clock = np.arange(60 + 7 * (number % 6))
        wave = np.sin(clock * (0.3 + 0.5 * LABELS.index(label)) + number) + 0.1 * rng.standard_normal(
            len(clock)
        )
        channels = {"wave": wave, "noise": rng.standard_normal(len(clock)), "clock": clock, "spy": -wave}
        keys = {"host": host, "recording": f"r{number:02}", "label": label}
        frame = pl.DataFrame({"t": clock / RATE_HZ, **channels})
        parts.append(frame.with_columns(pl.lit(value).alias(name) for name, value in keys.items()))
    folder.mkdir(parents=True, exist_ok=True)
    pl.concat(parts).write_parquet(folder / "data.parquet")
    described = {"name": "sines", "rate_hz": RATE_HZ, "privileged": ["spy"], "vectors": [["wave", "noise"]]}
    (folder / "dataset.json").write_text(json.dumps(described | info))
    return folder


def spec_json(model: str = "gbt", **changes: object) -> dict[str, object]:
    return {
        "schema": 1,
        "job_id": "0123456789abcdef",
        "name": f"{model} on sines",
        "model": model,
        "mode": "realistic",
        "hyper": TINY.get(model, {}),
        "split_recipe": "host",
        "train_hosts": ["ann", "bob"],
        "seed": 7,
        "n_resamples": 50,
        "priority": 3,  # one of the further keys that are tolerated
    } | changes


def job_spec(model: str = "gbt", **changes: object) -> JobSpec:
    return JobSpec.model_validate(spec_json(model, **changes))


def environment(folder: Path, data: Path, **more: str) -> dict[str, str]:
    """The variables an agent sets, all below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        "FLEET_JOB_SPEC": folder / "job.json",
        "FLEET_OUTPUT_DIR": folder / "out",
        "FLEET_CHECKPOINT_DIR": folder / "checkpoint",
        "FLEET_EVENTS": folder / "events.jsonl",
        "FLEET_DATA": data,
    }
    return {name: str(path) for name, path in places.items()} | more


def train_here(folder: Path, data: Path, spec: JobSpec, job: Job | None = None) -> Path:
    """Run one job in this process; its output folder."""
    from fleet_trainer.run import run

    current = job or Job(environment(folder, data))
    run(current, spec, spec.settings())
    return current.output_dir


def start(environ: Mapping[str, str], spec: Mapping[str, object]) -> subprocess.Popen[str]:
    Path(environ["FLEET_JOB_SPEC"]).write_text(json.dumps(spec))
    return subprocess.Popen(
        [sys.executable, "-m", "fleet_trainer", "run"],
        env=os.environ | dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def events(environ: Mapping[str, str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(environ["FLEET_EVENTS"]).read_text().splitlines()]
