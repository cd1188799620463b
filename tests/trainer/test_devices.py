"""Several ranks, and bf16: what no machine without GPUs can show of them, over gloo and on the CPU."""

from __future__ import annotations

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
    train_here,
)
from tests.trainer.two_ranks import STILL

pytestmark = needs_torch


LAUNCH = """
import sys
from fleet_trainer.ranks import run_ranks
sys.exit(run_ranks([sys.executable, "-m", "tests.trainer.two_ranks", *sys.argv[1:]], 2))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, str]:
    """Three runs of two ranks, and all that they said."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-c", LAUNCH, str(folder), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_two_ranks_agree_on_one_result_that_the_first_one_tells(tmp_path: Path, data: Path, two):
    folder, said = two
    assert said.count("transformer on sines") == 1
    alone = contents(train_here(tmp_path, data, job_spec("transformer", hyper=STILL)))
    together = contents(folder / "still/out")
    assert set(together) == set(alone)
    import torch
    from safetensors.torch import load

    weights = load(together["model.safetensors"])
    for name, value in load(alone["model.safetensors"]).items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-3)  # a step of Adam is up to 2e-3


def test_two_ranks_that_were_stopped_end_in_the_same_bits(two):
    folder, said = two
    assert "resumed train at step 4 of" in said
    told = environment(folder / "stopped", folder)
    assert [event["step"] for event in events(told) if event["type"] == "checkpoint"] == [4]
    assert contents(folder / "stopped/out") == contents(folder / "whole/out")


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
