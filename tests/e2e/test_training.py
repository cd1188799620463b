"""Real models on the real recordings, from one manifest to verified artifacts."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fleet_protocol.states import JobStatus
from tests.e2e import manifests
from tests.e2e.house import TRACEBACK, House
from tests.e2e.programs import environment, left_behind

pytestmark = pytest.mark.e2e
ALLOWED = ("gbt", "mlp")
HAS_TORCH = find_spec("torch") is not None
CHANCE = 1 / 7


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smartwatch set, as the demo converts it."""
    folder = tmp_path_factory.mktemp("recordings")
    convert = [sys.executable, "-m", "fleet_trainer", "convert", "watch", "--out", str(folder)]
    subprocess.run(convert, check=True, capture_output=True)
    return folder


@pytest.mark.timeout(180)
def test_fourteen_jobs_are_queued_and_a_worker_trains_exactly_those_its_host_allows(
    house: House, recordings: Path
):
    house.serve(manifests.seven_by_two("pi-garage", ALLOWED))
    assert [one["status"] for one in house.jobs()] == ["pending"] * 14
    worker = house.agent("pi-garage", "--data", str(recordings), real=True)
    models = ALLOWED if HAS_TORCH else ("gbt",)
    mine = [
        f"{model}-{mode}" for model in models for mode in manifests.MODES
    ]  # in the order of their training
    for name in mine:
        house.until_status(name, JobStatus.COMPLETED)
    worker.end()
    claimed = [one["job"]["name"] for one in house.events() if one["kind"] == "claimed"]
    assert sorted(claimed) == sorted(mine)
    waiting = {one["name"]: one["reason"] for one in house.jobs() if one["status"] == "pending"}
    assert len(waiting) == 14 - len(mine)
    assert "allow_jobs" in waiting["cnn-oracle"]
    assert "pi-garage" in waiting["cnn-oracle"]
    for name in mine:
        assert_trained(house, name)
    assert_nothing_is_trained_again(house)
    if not HAS_TORCH:
        pytest.skip("torch is not installed: only the trees were trained")


def assert_trained(house: House, name: str) -> None:
    """There is a result better than guessing, an artifact that is what its name says, and a log."""
    job = house.job(name)
    headline = next(iter(job.metrics.values()))
    assert headline.low is not None
    assert headline.high is not None
    assert CHANCE < headline.low <= headline.value <= headline.high <= 1
    stored = (house.folder / "server" / str(job.artifact_path)).read_bytes()
    assert hashlib.sha256(stored).hexdigest() == job.artifact
    assert b"windows to train on" in house.log(name)


def assert_nothing_is_trained_again(house: House) -> None:
    before = house.events()
    house.fleet("reload")
    assert [one for one in house.events()[len(before) :] if one["job"]] == []


def test_data_that_is_none_is_said_in_a_sentence(house: House):
    house.serve(manifests.of("job", each="max_attempts = 1"))
    house.agent("worker", real=True)  # its files of data are empty
    job = house.until_status("job", JobStatus.FAILED)
    assert job.history[0].exit_code == 3
    assert "dataset.json" in str(job.reason)
    assert TRACEBACK not in str(job.history[0].tail)


@pytest.mark.timeout(240)
def test_the_demo_trains_everything_once(tmp_path: Path):
    # Without torch there is less to train, and what is to be shown is the same.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    (first, story), (second, sequel) = demo(tmp_path), demo(tmp_path)
    assert "none trained yet" in story
    assert "not trained again" in sequel
    statuses = Counter(job["status"] for job in first["jobs"])
    assert statuses == {"completed": 8, "failed": 1, "pending": 1}
    (failed,) = (job for job in first["jobs"] if job["status"] == "failed")
    assert "subject-11" in failed["reason"]
    assert trained(first) == trained(second)
    assert not left_behind(tmp_path)


def demo(folder: Path) -> tuple[dict[str, Any], str]:
    """What a run of the demo answers, and what it tells meanwhile."""
    command = [sys.executable, "-m", "fleet_client", "demo", "--json", "--dir", str(folder / "demo")]
    without_torch = environment(folder) | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=without_torch, cwd=folder, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert TRACEBACK not in done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def trained(outcome: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {
        job["name"]: (job["artifact"], job["version"])
        for job in outcome["jobs"]
        if job["status"] == "completed"
    }
