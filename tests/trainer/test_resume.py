"""A run that was stopped and resumed ends in the same bits as one that was not."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from fleet_trainer.errors import Stopped
from fleet_trainer.job import CHECKPOINT_FILE, Job
from tests.trainer.synthetic import (
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

posix = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM cannot be caught on Windows")


class StopsAt(Job):
    """A job that is asked to stop during one given step."""

    def __init__(self, environ: dict[str, str], step: int) -> None:
        super().__init__(environ)
        self.step = step

    def progress(self, step: int, total: int) -> None:
        self.should_stop = step == self.step
        super().progress(step, total)


class DiesAt(StopsAt):
    def progress(self, step: int, total: int) -> None:
        if step == self.step:
            raise ConnectionAbortedError("the power went")


@needs_torch
@pytest.mark.parametrize(
    ("model", "step"),
    [
        ("cnn", 3),
        ("mlp", 5),
        ("lstm", 8),
        ("transformer", 7),
        *(("transformer_ssl", s) for s in (2, 4, 5, 8)),
    ],
)
def test_stopping_at_any_step_changes_nothing(tmp_path: Path, data: Path, model, step):
    spec = job_spec(model, hyper=TINY[model] | {"batch_size": 32 if model == "transformer_ssl" else 16})
    whole = contents(train_here(tmp_path / "whole", data, spec))
    environ = environment(tmp_path / "stopped", data)
    with pytest.raises(Stopped, match=f"stopped at step {step} of "):
        train_here(tmp_path, data, spec, StopsAt(environ, step))
    assert {"type": "checkpoint", "step": step} in events(environ)
    resumed = contents(train_here(tmp_path, data, spec, Job(environ)))
    assert resumed == whole


@needs_torch
@pytest.mark.parametrize("step", [4, 12, 13])
def test_an_ensemble_resumes_within_and_between_its_members(tmp_path: Path, data: Path, step):
    spec = job_spec("mlp", hyper=TINY["mlp"] | {"members": 2})
    environ = environment(tmp_path / "stopped", data)
    with pytest.raises(Stopped):
        train_here(tmp_path, data, spec, StopsAt(environ, step))
    resumed = contents(train_here(tmp_path, data, spec, Job(environ)))
    assert resumed == contents(train_here(tmp_path / "whole", data, spec))


@needs_torch
def test_an_interval_checkpoint_survives_a_crash(tmp_path: Path, data: Path):
    whole = contents(train_here(tmp_path / "whole", data, job_spec("gru")))
    environ = environment(tmp_path / "crashed", data, FLEET_CHECKPOINT_S="0")
    with pytest.raises(ConnectionAbortedError):
        train_here(tmp_path, data, job_spec("gru"), DiesAt(environ, 6))
    assert [event["step"] for event in events(environ) if event["type"] == "checkpoint"] == [1, 2, 3, 4, 5]
    resumed = contents(train_here(tmp_path, data, job_spec("gru"), Job(environ)))
    assert resumed == whole


@needs_torch
def test_a_finished_run_can_be_run_again(tmp_path: Path, data: Path):
    environ = environment(tmp_path, data, FLEET_CHECKPOINT_S="0")
    first = contents(train_here(tmp_path, data, job_spec("cnn"), Job(environ)))
    assert contents(train_here(tmp_path, data, job_spec("cnn"), Job(environ))) == first


@needs_torch
@pytest.mark.parametrize("spoil", ["another job", "torn"])
def test_a_checkpoint_that_does_not_fit_is_left_aside(tmp_path: Path, data: Path, capsys, spoil):
    whole = contents(train_here(tmp_path / "whole", data, job_spec("cnn")))
    environ = environment(tmp_path / "spoiled", data)
    with pytest.raises(Stopped):
        train_here(
            tmp_path, data, job_spec("cnn", seed=8 if spoil == "another job" else 7), StopsAt(environ, 3)
        )
    if spoil == "torn":
        path = Path(environ["FLEET_CHECKPOINT_DIR"]) / CHECKPOINT_FILE
        path.write_bytes(path.read_bytes()[:1000])
    assert contents(train_here(tmp_path, data, job_spec("cnn"), Job(environ))) == whole
    assert "starting over" in capsys.readouterr().out


@needs_torch
@posix
def test_sigterm_checkpoints_and_a_second_process_finishes_with_the_same_bits(tmp_path: Path, data: Path):
    spec = spec_json("cnn", hyper=TINY["cnn"] | {"epochs": 60})
    whole = contents(train_here(tmp_path / "whole", data, job_spec("cnn", hyper=spec["hyper"])))
    environ = environment(tmp_path / "stopped", data)
    process = start(environ, spec)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("train epoch 1/"):
            process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert errors.startswith("fleet-train: stopped at step ")
    process = start(environ, spec)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "resumed train at step" in output
    assert contents(Path(environ["FLEET_OUTPUT_DIR"])) == whole


@posix
def test_sigterm_stops_trees_between_two_rounds(tmp_path: Path, data: Path):
    environ = environment(tmp_path, data)
    process = start(environ, spec_json(hyper=TINY["gbt"] | {"trees": 100_000}))
    assert process.stdout
    for line in process.stdout:
        if line.startswith("round "):
            process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "gbt is short and starts over" in errors
    assert not Path(environ["FLEET_OUTPUT_DIR"]).exists()
