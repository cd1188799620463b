"""Several ranks, and bf16: what no machine without GPUs can show of them, over gloo and on the CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_trainer.errors import SpecRefused
from fleet_trainer.job import Job
from tests.trainer.synthetic import (
    TINY,
    contents,
    environment,
    events,
    job_spec,
    needs_torch,
    spec_json,
    train_here,
)

pytestmark = needs_torch


def ranks(environ: dict[str, str], spec: dict[str, object], count: int = 2) -> list[subprocess.Popen[str]]:
    """What torchrun starts: a process for each rank, told of the others by its environment."""
    Path(environ["FLEET_JOB_SPEC"]).write_text(json.dumps(spec))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "fleet_trainer", "run"],
            env=os.environ
            | environ
            | place
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def test_two_ranks_agree_on_one_result_that_the_first_one_tells(tmp_path: Path, data: Path):
    """Without dropout and batch statistics, halves of a batch averaged are the batch."""
    spec = spec_json("transformer", hyper=TINY["transformer"] | {"dropout": 0.0, "layer_dropout": 0.0})
    environ = environment(tmp_path / "two", data, FLEET_CHECKPOINT_S="0")
    told = [(process, *process.communicate(timeout=100)) for process in ranks(environ, spec)]
    assert [process.returncode for process, _, _ in told] == [0, 0], told
    assert "epoch 2/2" in told[0][1]
    assert told[1][1] == ""
    steps = [event["step"] for event in events(environ) if event["type"] == "checkpoint"]
    assert steps == list(range(1, len(steps) + 1))
    alone = train_here(tmp_path / "one", data, job_spec("transformer", hyper=spec["hyper"]))
    together = contents(tmp_path / "two" / "out")
    assert set(together) == set(contents(alone))
    import torch
    from safetensors.torch import load

    one, two = load(contents(alone)["model.safetensors"]), load(together["model.safetensors"])
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-3)  # a step of Adam is up to 2e-3


def test_a_batch_that_ranks_cannot_share_is_refused():
    from fleet_trainer.devices import Ranks

    assert Ranks(1, 3).share_of(32) == 10
    with pytest.raises(SpecRefused, match=r"hyper.batch_size: 7 windows for 4 ranks"):
        Ranks(0, 4).share_of(7)


@pytest.mark.parametrize("model", ["mlp", "cnn", "gru", "lstm", "transformer_ssl"])
def test_bf16_trains_weights_that_stay_float32(tmp_path: Path, data: Path, model):
    spec = job_spec(model, hyper=TINY[model] | {"precision": "bf16"})
    from safetensors.numpy import load

    weights = load(contents(train_here(tmp_path / "bf16", data, spec))["model.safetensors"])
    plain = load(contents(train_here(tmp_path / "plain", data, job_spec(model)))["model.safetensors"])
    assert {value.dtype.name for value in weights.values()} <= {"float32", "int64"}
    assert any((weights[name] != plain[name]).any() for name in weights)


def test_the_device_is_the_one_the_agent_names(tmp_path: Path, data: Path):
    from fleet_trainer.devices import find_device

    assert find_device(Job(environment(tmp_path, data, FLEET_DEVICE="cpu"))).type == "cpu"
