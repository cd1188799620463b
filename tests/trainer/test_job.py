"""The helper that other scripts use in two lines."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet_trainer.job import Job
from tests.trainer.synthetic import environment, events, needs_torch, spec_json
from tests.trainer.test_resume import posix

SCRIPT = """
import fleet_trainer as ft
job = ft.job()
lr = job.hyper.get("lr", 0.1)
for step in range(1, 4):
    job.progress(step, 3)
    job.log(step, loss=lr / step)
    if job.should_stop:
        job.stop()
job.finish(score=0.75, rmse=2.0)
print(job.device, job.seed, lr)
"""


def run_script(
    tmp_path: Path, environ: dict[str, str], script: str = SCRIPT
) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(script)
    return subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_outside_fleet_a_script_runs_alone_and_leaves_nothing(tmp_path: Path):
    done = run_script(tmp_path, {})
    assert (done.returncode, done.stdout) == (0, "cpu 0 0.1\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_inside_fleet_it_reports_progress_curves_and_final_metrics(tmp_path: Path):
    environ = environment(tmp_path, tmp_path, FLEET_SEED="4", FLEET_DEVICE="cuda:1")
    (tmp_path / "job.json").write_text(json.dumps(spec_json(hyper={"lr": 0.5})))
    (tmp_path / "out").mkdir()
    done = run_script(tmp_path, environ)
    assert (done.returncode, done.stdout) == (0, "cuda:1 4 0.5\n"), done.stderr
    told = events(environ)
    assert told[0] == {"type": "progress", "step": 1, "total": 3}
    [point] = [event for event in told if event["type"] == "metric" and event["step"] == 2]
    assert abs(point.pop("at") - time.time()) < 600
    assert point == {"type": "metric", "name": "loss", "step": 2, "value": 0.25}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]
    assert list(metrics) == ["score", "rmse"]
    assert metrics["rmse"] == {"value": 2.0, "low": None, "high": None, "unit": ""}


@posix
def test_asked_to_stop_it_leaves_with_the_exit_code_that_costs_no_attempt(tmp_path: Path):
    environ = environment(tmp_path, tmp_path)
    (tmp_path / "job.json").write_text(json.dumps(spec_json()))
    asking = SCRIPT.replace(
        "    job.progress", f"    import os; os.kill(os.getpid(), {int(signal.SIGTERM)})\n    job.progress"
    )
    assert run_script(tmp_path, environ, asking).returncode == 75


def test_progress_is_told_at_once_then_seldom_and_at_the_end(tmp_path: Path):
    environ = environment(tmp_path, tmp_path)
    job = Job(environ)
    for step in range(1, 10_001):
        job.progress(step, 10_000)
    steps = [event["step"] for event in events(environ)]
    assert steps[0] == 1
    assert steps[-1] == 10_000
    assert len(steps) < 100


def test_a_value_that_is_not_finite_is_told_as_none(tmp_path: Path):
    environ = environment(tmp_path, tmp_path)
    Job(environ).log(3, loss=math.nan, accuracy=0.5)
    assert [(event["name"], event["value"]) for event in events(environ)] == [
        ("loss", None),
        ("accuracy", 0.5),
    ]


def test_an_event_too_long_to_be_written_whole_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="over the limit of 4096"):
        Job(environment(tmp_path, tmp_path)).phase("x" * 5000)


def test_losing_the_events_file_never_ends_a_training(tmp_path: Path):
    Job(environment(tmp_path, tmp_path, FLEET_EVENTS=str(tmp_path / "gone" / "events"))).log(1, loss=0.5)


@needs_torch
def test_a_checkpoint_comes_back_and_replaces_the_one_before(tmp_path: Path):
    environ = environment(tmp_path, tmp_path)
    job = Job(environ)
    assert job.load() is None
    job.save({"step": 1}, 1)
    job.save({"step": 2}, 2)
    assert Job(environ).load() == {"step": 2}
    assert [path.name for path in Path(environ["FLEET_CHECKPOINT_DIR"]).iterdir()] == ["checkpoint.pt"]
