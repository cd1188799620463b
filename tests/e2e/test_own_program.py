"""A plain script of the operator's, with its own source and data, goes from one machine to the next by checkpoints."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from pathlib import Path

import pytest
from backports.zstd import ZstdFile

from fleet_protocol.archive import content_digest
from fleet_protocol.states import AttemptStatus, JobStatus
from tests.e2e.house import House

pytestmark = pytest.mark.e2e
TRAIN = '''
"""Counts the lines of its data, one a step; knows nothing of fleet but two environment variables."""
import argparse, os, pathlib, signal, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--go", type=pathlib.Path)
options = parser.parse_args()
rows = (pathlib.Path(os.environ["FLEET_DATA"]) / "deep" / "rows.csv").read_text().splitlines()
checkpoint = pathlib.Path(os.environ["FLEET_CHECKPOINT_DIR"]) / "step"
step = int(checkpoint.read_text()) if checkpoint.exists() else 0

def stop(*_):
    checkpoint.write_text(str(step))
    print("stopped at", step, flush=True)
    sys.exit(75)

signal.signal(signal.SIGTERM, stop)
print("begins at", step, "of", len(rows), "with", options.lr, flush=True)
while step < len(rows):
    step += 1
    print("step", step, flush=True)
    while step == 3 and not options.go.exists():
        time.sleep(0.01)
pathlib.Path("out").mkdir()
pathlib.Path("out/model.txt").write_text(f"{step} rows at {options.lr}")
'''
MANIFEST = """schema_version = 1
[defaults]
min_ram_gib = 0.1
[models.counter]
command = ["python", "train.py", "--lr", "{{hyper.lr}}", "--go", "{go}"]
source = "source"
outputs = ["out/*.txt"]
[datasets.rows]
path = "rows"
[[jobs]]
name = "count"
model = "counter"
dataset = "rows"
hyper = {{ lr = 0.5 }}
"""
ROWS = 5


@pytest.fixture
def pushed(house: House) -> House:
    """A coordinator that has the source and the data by `fleet reload`, and neither on its own disk."""
    place = house.folder / "desk"
    for name, text in (("source/train.py", TRAIN), ("rows/deep/rows.csv", "row\n" * ROWS)):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text(text)
    (place / "manifest.toml").write_text(MANIFEST.format(go=house.folder / "go"))
    house.serve()
    house.fleet("reload", str(place / "manifest.toml"))
    return house


def cached(house: House, agent: str, kind: str) -> list[Path]:
    return list((house.state(agent) / kind).iterdir())


def test_a_drained_program_goes_on_elsewhere_from_its_checkpoint(pushed: House):
    house = pushed
    first = house.agent("first", real=True)
    house.until(lambda: b"step 3\n" in house.log("count"), "the third step")
    assert first.end(signal.SIGTERM) == 0
    job = house.job("count")
    assert (job.status, job.history[0].status) == (JobStatus.PENDING, AttemptStatus.RELEASED)
    assert job.checkpoint is not None
    assert house.log("count") == b"begins at 0 of 5 with 0.5\nstep 1\nstep 2\nstep 3\nstopped at 3\n"
    (house.folder / "go").touch()
    house.agent("second", real=True)
    job = house.until_status("count", JobStatus.COMPLETED)
    assert (job.worker, job.errors, job.lost, job.attempts) == ("second", 0, 0, 2)
    assert house.log("count") == b"begins at 3 of 5 with 0.5\nstep 4\nstep 5\n"
    assert "checkpointed" in house.story("count")
    assert job.checkpoint is None
    bundle = house.get(f"/v1/model/{job.artifact}").raise_for_status().content
    with ZstdFile(io.BytesIO(bundle)) as file, tarfile.open(fileobj=file) as archive:
        [entry] = archive.getmembers()
        assert (entry.name, entry.size) == ("out/model.txt", len("5 rows at 0.5"))
    for agent in ("first", "second"):
        [data] = cached(house, agent, "datasets")
        assert data.name == content_digest(data) == content_digest(house.folder / "desk" / "rows")


def test_a_blob_that_rotted_at_the_coordinator_is_told_and_not_trained_on(pushed: House):
    house = pushed
    [data] = (
        path
        for path in (house.folder / "server" / "blobs").rglob("*")
        if path.is_file() and path.name == content_digest(house.folder / "desk" / "rows")
    )
    data.chmod(0o600)
    data.write_bytes(os.urandom(data.stat().st_size))
    house.agent("worker")
    house.until(lambda: "retried" in house.story("count"), "the first attempt to fail")
    first = house.job("count").history[0]
    assert first.status is AttemptStatus.FAILED
    assert first.reason == "data set rows cannot be had here: its bytes arrived damaged 2 times"
    assert not cached(house, "worker", "datasets")


def test_a_host_that_runs_no_commands_says_so(pushed: House):
    house = pushed
    house.agent("strict", "--no-allow-commands")
    house.until(lambda: "strict" in house.fleet("explain", "count"), "the worker to be known")
    said = house.fleet("explain", "count")
    assert "does not run the manifest's own programs" in said
