"""What a newcomer copies works: every example through a real coordinator and agents, some stopped midway."""

from __future__ import annotations

import io
import shlex
import signal
import sys
import tarfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from backports.zstd import ZstdFile

from fleet_protocol.manifest.loading import load
from fleet_protocol.metrics import JobMetrics
from fleet_protocol.states import AttemptStatus, JobStatus
from tests.architecture.source import ROOT
from tests.e2e.house import House

EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "howto" / "own-script.md"
WHOLE = {"scikit-learn": ["forest/trees=5", "forest/trees=50"], "shell": ["shell"]}
STOPPED = {"pytorch": 30, "lightning": 40, "huggingface": 40}
"""Steps of those that are stopped in the third."""
FILES = {
    "pytorch": {"metrics.json", "model.pt"},
    "lightning": {"metrics.json", "model.pt"},
    "huggingface": {
        "metrics.json",
        "model/config.json",
        "model/model.safetensors",
        "model/training_args.bin",
    },
    "forest/trees=5": {"metrics.json", "forest.joblib"},
    "forest/trees=50": {"metrics.json", "forest.joblib"},
    "shell": {"metrics.json", "model.txt"},
}
frameworks = pytest.mark.skipif(
    not all(map(find_spec, ("torch", "pytorch_lightning", "transformers", "accelerate", "sklearn"))),
    reason="torch or one of the examples' frameworks is not installed",
)


@pytest.fixture
def house(tmp_path: Path):
    house = House(tmp_path)
    try:
        yield house
    finally:
        house.close()


def holding_python(folder: Path) -> str:
    """A `python` whose scripts wait in their third step, without a network to look for anything in."""
    script = folder / "python"
    real, held = shlex.quote(sys.executable), shlex.quote(str(Path(__file__).with_name("held.py")))
    script.write_text(
        "#!/bin/sh\nexport HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1\n"
        f'case $1 in -*) exec {real} "$@";; esac\nexec {real} {held} "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


def artifact(house: House, job: str) -> set[str]:
    bundle = house.get(f"/v1/model/{house.job(job).artifact}").raise_for_status().content
    with ZstdFile(io.BytesIO(bundle)) as file, tarfile.open(fileobj=file) as archive:
        return set(archive.getnames())


@frameworks
@pytest.mark.e2e
@pytest.mark.timeout(300)  # a busy machine imports three frameworks, twice
def test_every_example_trains_and_goes_on_elsewhere_after_a_stop(house: House):
    house.serve()
    for name in (*STOPPED, *WHOLE):
        house.fleet("reload", str(EXAMPLES / name / "fleet.toml"))
    options = ("--max-jobs", "6", "--cores", "8", "--python", holding_python(house.folder))
    first = house.agent("first", *options, real=True)
    ids = {job["name"]: job["job_id"] for job in house.jobs()}  # a grid's names hold a slash
    for job in (job for jobs in WHOLE.values() for job in jobs):
        house.until_status(ids[job], JobStatus.COMPLETED)
    for job in STOPPED:
        house.until(partial(is_held, house, job), f"the third step of {job}")
    assert first.end(signal.SIGTERM) == 0
    for job in STOPPED:
        assert (house.job(job).status, house.job(job).history[0].status) == (
            JobStatus.PENDING,
            AttemptStatus.RELEASED,
        )
        assert house.job(job).checkpoint is not None
    house.agent("second", *options, real=True)
    for job, steps in STOPPED.items():
        done = house.until_status(job, JobStatus.COMPLETED)
        assert (done.worker, done.errors, done.lost, done.attempts) == ("second", 0, 0, 2)
        assert 3 < min(steps_told(house, job)) <= 5, "it goes on where it was stopped"
        assert max(steps_told(house, job)) == steps
    for job, files in FILES.items():
        assert artifact(house, ids[job]) == files
        [(headline, metric)] = house.job(ids[job]).metrics.items()
        assert metric.value > 0.8 if headline == "accuracy" else metric.value < 0.02


def is_held(house: House, job: str) -> bool:
    return b"held\n" in house.log(job)


def steps_told(house: House, job: str) -> list[int]:
    """Of the last attempt's loss."""
    answer = house.get(f"/v1/job/{job}/metrics").raise_for_status().content
    return [step for step, _, _ in JobMetrics.model_validate_json(answer).series["loss"]]


@pytest.mark.parametrize("name", [*STOPPED, *WHOLE])
def test_an_example_is_short_and_its_manifest_holds(name: str):
    assert load(EXAMPLES / name / "fleet.toml").jobs
    [script] = (EXAMPLES / name / "src").glob("train.*")
    assert len(script.read_text().splitlines()) < 65


def test_what_the_page_shows_is_in_the_files():
    files = [path.read_text() for path in EXAMPLES.rglob("*.*") if path.suffix in {".py", ".sh", ".toml"}]
    blocks = [block.partition("\n") for block in PAGE.read_text().split("```")[1::2]]
    shown = [text for language, _, text in blocks if language != "sh"]
    assert len(shown) > 8
    assert [text for text in shown if not any(text in file for file in files)] == []
