from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet_agent.environment import account_environment, choose_devices, trainer_environment
from fleet_agent.settings import Settings
from fleet_agent.state import AttemptFolder, Record
from fleet_protocol.capability import Capability, Gpu
from fleet_protocol.ids import AttemptId
from fleet_protocol.jobs import Needs
from tests.agent.coordinator import job_spec

CPU = Capability(hostname="h", os="o", cores=2, ram_gib=4, models=())
CUDA = CPU.model_copy(
    update={"gpus": (Gpu(kind="cuda", name="g", vram_gib=8), Gpu(kind="cuda", name="g", vram_gib=8))}
)


UNEQUAL = CPU.model_copy(
    update={"gpus": (Gpu(kind="cuda", name="large", vram_gib=24), Gpu(kind="cuda", name="g", vram_gib=8))}
)


def folder(tmp_path: Path, devices: tuple[int, ...] = (), **job: Any) -> AttemptFolder:
    spec, attempt = job_spec(**job), AttemptId("a")
    return AttemptFolder(tmp_path, Record(job=spec, attempt=attempt, number=2, boot_id=None, devices=devices))


def test_nothing_of_ours_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEET_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/cuda")
    kept = account_environment()
    assert "secret" not in kept.values()
    assert kept["LD_LIBRARY_PATH"] == "/cuda"
    assert kept["PATH"]


def test_no_secret_of_the_agent_reaches_a_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "FLEET_TOKEN",
        "FLEET_JOIN_TOKEN",
        "FLEET_AGENT_STATE",
        "CREDENTIALS_DIRECTORY",
        "SSL_CERT_FILE",
    ):
        monkeypatch.setenv(name, "fa1_secret")
    told = trainer_environment(folder(tmp_path), Settings(state=tmp_path / "s"), None)
    assert not [name for name, value in told.items() if "fa1_" in value]
    assert not {"FLEET_TOKEN", "FLEET_JOIN_TOKEN", "FLEET_URL", "FLEET_AGENT_STATE"} & told.keys()


def test_an_account_without_path_and_language_gets_both() -> None:
    assert account_environment({}).keys() == {"PATH", "LANG"}


@pytest.mark.parametrize(
    ("capability", "needs", "offered", "taken", "chosen"),
    [
        (CPU, Needs(prefer_cuda=True), None, (), ()),
        (CUDA, Needs(), None, (), ()),
        (CUDA, Needs(require_cuda=True), None, (), (0,)),
        (CUDA, Needs(require_cuda=True), None, (0,), (1,)),
        (CUDA, Needs(require_cuda=True, gpus=2), None, (), (0, 1)),
        (CUDA, Needs(prefer_cuda=True), "3,5", (3,), (5,)),
        (CUDA, Needs(prefer_cuda=True), None, (0, 1), ()),
        (CUDA, Needs(require_cuda=True), None, (0, 1), (0,)),
        (CUDA, Needs(prefer_cuda=True, min_vram_gib=12), None, (), ()),
        (UNEQUAL, Needs(require_cuda=True), None, (), (1,)),
        (UNEQUAL, Needs(require_cuda=True, min_vram_gib=12), None, (), (0,)),
    ],
)
def test_a_gpu_is_given_to_jobs_that_asked_for_one(
    capability: Capability, needs: Needs, offered: str | None, taken: tuple[int, ...], chosen: tuple[int, ...]
) -> None:
    assert choose_devices(needs, Settings(name="n", gpus=offered), capability, taken) == chosen


@pytest.mark.parametrize(
    ("devices", "device", "visible"), [((), "cpu", ""), ((1,), "cuda", "1"), ((0, 2), "cuda", "0,2")]
)
def test_a_trainer_sees_its_own_devices_only(
    tmp_path: Path, devices: tuple[int, ...], device: str, visible: str
) -> None:
    told = trainer_environment(folder(tmp_path, devices=devices), Settings(name="n"), None)
    assert (told["FLEET_DEVICE"], told["CUDA_VISIBLE_DEVICES"]) == (device, visible)
    assert told["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_threads_and_seeds_are_fixed(tmp_path: Path) -> None:
    told = trainer_environment(folder(tmp_path, hyper={"threads": True}), Settings(name="n"), None)
    assert told["OMP_NUM_THREADS"] == told["FLEET_THREADS"] == "1"
    assert told["PYTHONHASHSEED"] == "0"
    assert told["FLEET_SEED"] == "7"
    assert told["FLEET_ATTEMPT"] == "2"
    assert "FLEET_DATA" not in told


def test_data_is_told_where_there_is_some(tmp_path: Path) -> None:
    told = trainer_environment(folder(tmp_path), Settings(name="n"), tmp_path / "data")
    assert told["FLEET_DATA"] == str(tmp_path / "data")
