"""The manifests that come with fleet hold, and say what they claim to say."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from fleet_client.demo.folder import bundled_manifest
from fleet_client.demo.verdict import MEANT
from fleet_protocol.hyper import BUILT_IN_MODELS
from fleet_protocol.manifest import DatasetEntry, Defaults, HostPolicy, JobEntry, ModelEntry, load, parse
from fleet_protocol.states import JobStatus

EXAMPLE = Path(__file__).parents[2] / "etc" / "training_manifest.toml.example"


def test_the_example_loads():
    assert {host for host in load(EXAMPLE).hosts} == {"elliott-thinkpad", "pi-garage", "gpu-desktop"}


def test_the_example_shows_every_key():
    written, text = tomllib.loads(EXAMPLE.read_text("utf-8")), EXAMPLE.read_text("utf-8")
    assert written["defaults"].keys() == Defaults.model_fields.keys()
    assert written["jobs"][-1].keys() == JobEntry.model_fields.keys() - {"dataset"}
    rest = [*HostPolicy.model_fields, *ModelEntry.model_fields, *DatasetEntry.model_fields, "dataset"]
    assert not [key for key in rest if f"{key} = " not in text]


@pytest.mark.parametrize("torch", [True, False])
def test_the_demo_trains_eight_jobs_or_more_and_means_two_not_to(torch: bool):
    manifest = parse(bundled_manifest(torch=torch))
    jobs = {job.name: job for job in manifest.jobs}
    real = [job for name, job in jobs.items() if name not in MEANT]
    assert len(real) >= 8
    assert {job.mode for job in real} == {"realistic", "oracle"}
    assert {job.split_recipe for job in real} == {"host", "sample", "time"}
    assert {job.model for job in real} == (set(BUILT_IN_MODELS) if torch else {"gbt"})
    failing, waiting = (jobs[name] for name in MEANT)
    assert (MEANT[failing.name], failing.max_attempts) == (JobStatus.FAILED, 1)
    assert MEANT[waiting.name] is JobStatus.PENDING
    assert waiting.needs.require_cuda


def test_the_demos_manifests_are_part_of_the_package():
    names = {entry.name for entry in files("fleet_client.demo").iterdir()}
    assert {"training_manifest.toml", "training_manifest_gbt.toml"} <= names
