"""Whole jobs: every model, every split, the artifact, the events, the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from fleet_trainer.errors import TrainerError
from fleet_trainer.job import Job
from fleet_trainer.models.mlp import Mlp
from fleet_trainer.run import run
from tests.trainer.synthetic import (
    EVERY_MODEL,
    TINY,
    contents,
    environment,
    events,
    job_spec,
    needs_torch,
    spec_json,
    start,
    train_here,
)

SPLITS = {"host": "host", "sample": "recording", "time": "recording"}


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_every_model_leaves_a_complete_artifact(tmp_path: Path, data: Path, model):
    out = train_here(tmp_path, data, job_spec(model))
    weights = "model.txt" if model == "gbt" else "model.safetensors"
    assert set(contents(out)) == {"job.json", "metrics.json", "predictions.parquet", weights}
    result = json.loads((out / "metrics.json").read_text())
    assert next(iter(result["metrics"])) == "accuracy"
    predictions = pl.read_parquet(out / "predictions.parquet")
    right = (predictions["label"] == predictions["predicted"]).mean()
    assert result["metrics"]["accuracy"]["value"] == pytest.approx(right, abs=1e-6)
    assert predictions.select(pl.sum_horizontal("^p_.*$")).to_series().to_list() == pytest.approx(
        [1.0] * len(predictions), abs=1e-5
    )
    assert set(result["hosts"]) == {"cem", "dee"}
    job = json.loads((out / "job.json").read_text())
    assert job["data"]["channels"] == ["wave", "noise", "clock"]


@pytest.mark.parametrize("recipe", SPLITS)
def test_trees_learn_what_is_there_to_learn(tmp_path: Path, data: Path, recipe):
    hyper = {"decimation": 1, "window_seconds": 2.0, "stride_seconds": 1.0, "trees": 60, "min_leaf": 5}
    out = train_here(tmp_path, data, job_spec(split_recipe=recipe, mode="oracle", hyper=hyper))
    result = json.loads((out / "metrics.json").read_text())
    assert result["metrics"]["accuracy"]["value"] > 0.9
    assert result["interval"]["resampled"] == SPLITS[recipe]
    assert json.loads((out / "job.json").read_text())["data"]["channels"] == ["wave", "noise", "clock", "spy"]


def test_the_seed_decides_who_is_tested(tmp_path: Path, data: Path):
    tested = set()
    for seed in range(3):
        out = train_here(tmp_path / str(seed), data, job_spec(split_recipe="sample", seed=seed))
        tested.add(frozenset(pl.read_parquet(out / "predictions.parquet")["recording"]))
    assert len(tested) > 1


def test_more_resamples_do_not_change_the_model(tmp_path: Path, data: Path):
    few = contents(train_here(tmp_path / "few", data, job_spec(n_resamples=10)))
    many = contents(train_here(tmp_path / "many", data, job_spec(n_resamples=500)))
    assert few["model.txt"] == many["model.txt"]
    assert few["predictions.parquet"] == many["predictions.parquet"]
    assert few["metrics.json"] != many["metrics.json"]


def test_nothing_of_this_machine_is_in_the_artifact(tmp_path: Path, data: Path):
    out = train_here(tmp_path, data, job_spec())
    assert not [name for name, content in contents(out).items() if str(tmp_path).encode() in content]


@pytest.mark.parametrize("model", ["gbt", pytest.param("transformer_ssl", marks=needs_torch)])
def test_events_tell_phases_progress_and_curves(tmp_path: Path, data: Path, model):
    environ = environment(tmp_path, data)
    train_here(tmp_path, data, job_spec(model), Job(environ))
    told = events(environ)
    phases = [event["name"] for event in told if event["type"] == "phase"]
    assert phases == ["data", *(["pretrain"] if model != "gbt" else []), "train", "test"]
    steps = [event for event in told if event["type"] == "progress"]
    assert steps[-1]["step"] == steps[-1]["total"]
    assert {event["name"] for event in told if event["type"] == "metric"} == {"loss", "accuracy"}


def test_trees_never_load_torch(tmp_path: Path, data: Path):
    environ = environment(tmp_path, data)
    (tmp_path / "job.json").write_text(json.dumps(spec_json()))
    script = (
        "import sys; sys.argv = ['fleet-train', 'run']\n"
        "from fleet_trainer.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


LEAVING = [
    (
        spec_json(hyper={"tress": 3}),
        {},
        2,
        "fleet-train: hyper.tress is not a setting of gbt; did you mean trees?",
    ),
    (spec_json(), {"FLEET_DATA": "/nowhere"}, 3, "fleet-train: there is no data.parquet in /nowhere;"),
    (spec_json(train_hosts=["eve"]), {}, 3, "fleet-train: train_hosts names eve, which was not recorded"),
    (spec_json(), {"FLEET_OUTPUT_DIR": ""}, 2, "fleet-train: --out (FLEET_OUTPUT_DIR) is missing"),
    pytest.param(
        spec_json("cnn"),
        {"FLEET_DEVICE": "abacus"},
        1,
        "fleet-train: FLEET_DEVICE is abacus",
        marks=needs_torch,
    ),
]


@pytest.mark.parametrize(("spec", "changes", "code", "words"), LEAVING)
def test_what_goes_wrong_is_one_last_sentence_and_its_exit_code(
    tmp_path: Path, data: Path, spec, changes, code, words
):
    process = start(environment(tmp_path, data) | changes, spec)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith(words)
    assert "Traceback" not in errors


@needs_torch
@pytest.mark.parametrize("batch_size", [2, 40, 5000])
def test_a_run_may_be_as_short_as_one_step(tmp_path: Path, data: Path, batch_size):
    hyper = TINY["mlp"] | {"epochs": 1, "batch_size": batch_size}
    assert contents(train_here(tmp_path, data, job_spec("mlp", hyper=hyper)))


@needs_torch
def test_a_diverging_run_fails_and_says_what_to_change(tmp_path: Path, data: Path):
    from fleet_trainer.train import Phase

    class Diverging(Mlp):
        def phases(self, class_weights):
            return [Phase("train", 1, 0.1, lambda network, x, y, _: (network(x).sum() * float("nan"), 0))]

    with pytest.raises(TrainerError, match=r"the loss became nan in train epoch 1; lower hyper\.lr"):
        run(Job(environment(tmp_path, data)), job_spec("mlp"), Diverging())


@needs_torch
def test_an_ensemble_starts_with_the_network_that_one_alone_would_be(tmp_path: Path, data: Path):
    from safetensors.numpy import load

    alone = load(contents(train_here(tmp_path / "one", data, job_spec("mlp")))["model.safetensors"])
    spec = job_spec("mlp", hyper=TINY["mlp"] | {"members": 2})
    both = load(contents(train_here(tmp_path / "two", data, spec))["model.safetensors"])
    assert {name: value.tobytes() for name, value in alone.items()}.items() <= {
        name: value.tobytes() for name, value in both.items()
    }.items()
    first, second = (both[f"members.{number}.0.weight"] for number in (0, 1))
    assert (first != second).mean() > 0.9
