"""Detection with a fake at its one seam (the asking of other programs), and once for real."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fleet_agent.hardware import (
    DATA_FILES,
    MODEL_NEEDS,
    PACKAGES,
    ask,
    boot_id,
    cpu_name,
    detect,
    usable_bytes,
    usable_cores,
)
from fleet_agent.settings import Settings

FACTS = {
    "python": "3.12.1",
    "packages": PACKAGES,
    "torch": "2.13.0+cpu",
    "source": "/src/fleet_trainer/__init__.py",
}
GPUS = [{"kind": "cuda", "name": f"RTX {n}", "vram_gib": 8.0 * (n + 1), "driver": "580"} for n in range(2)]


class Machine:
    """Answers what the probes ask. A probe without an answer hangs until its time limit, as far as one can tell."""

    def __init__(self, **answers: str | None) -> None:
        self.answers = {"trainer": json.dumps(FACTS), "nvml": "[]"} | answers
        self.asked: list[Sequence[str]] = []

    async def __call__(self, command: Sequence[str], seconds: float) -> str | None:
        self.asked.append(command)
        for key, mark in (
            ("nvml", "fleet_agent.nvml"),
            ("trainer", "-c"),
            *((name, name) for name in self.answers),
        ):
            if mark in command:
                return self.answers.get(key)
        return None


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that looks like a data set."""
    for name in DATA_FILES:
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def settings(data: Path) -> Callable[..., Settings]:
    def make(**more: object) -> Settings:
        return Settings(**{"name": "n", "data": data} | more)  # type: ignore[arg-type]  # any field may be given

    return make


@pytest.mark.parametrize("missing", [*DATA_FILES, "--data"])
async def test_without_data_only_jobs_that_bring_some_are_taken(
    settings: Callable[..., Settings], data: Path, missing: str
) -> None:
    if missing == "--data":
        found = await detect(settings(data=None), Machine())
    else:
        (data / missing).unlink()
        found = await detect(settings(), Machine())
    assert found.capability.models == tuple(MODEL_NEEDS)
    assert (found.capability.data, found.capability.datasets) == (False, True)
    [said] = found.complaints
    assert missing in said
    assert "fleet-train convert" in said
    assert "only jobs that name a `dataset`" in said


@pytest.mark.parametrize(
    ("server", "token", "order", "runs"),
    [
        ("http://127.0.0.1:8490", None, None, True),
        ("http://localhost:8490", None, None, True),
        ("http://127.0.0.1:8490", "secret", None, False),
        ("https://lab.example", None, None, False),
        ("https://lab.example", "secret", True, True),
        ("http://127.0.0.1:8490", None, False, False),
    ],
)
async def test_the_manifests_programs_run_where_the_host_says_so(
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    token: str | None,
    order: bool | None,
    runs: bool,
) -> None:
    """Unsaid, only for a coordinator of the same account: its token is in a file that nobody else can read."""
    monkeypatch.delenv("FLEET_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("FLEET_TOKEN", token)
    found = await detect(settings(server=server, allow_commands=order), Machine())
    assert found.capability.commands is runs


async def test_everything_installed_is_advertised(
    settings: Callable[..., Settings],
) -> None:
    found = (await detect(settings(), Machine())).capability
    assert found.models == tuple(MODEL_NEEDS)
    assert (found.python, found.torch) == ("3.12.1", "2.13.0+cpu")
    assert found.cores == usable_cores()
    assert 0 < found.ram_gib <= usable_bytes() / 2**30 + 0.01


@pytest.mark.parametrize(
    ("missing", "models"),
    [
        ({"torch"}, ("gbt",)),
        ({"lightgbm"}, tuple(MODEL_NEEDS)[1:]),
        ({"fleet_trainer"}, ()),
        ({"polars"}, ()),
    ],
)
async def test_only_what_is_installed_is_advertised(
    settings: Callable[..., Settings], missing: set[str], models: tuple[str, ...]
) -> None:
    facts = FACTS | {"packages": [name for name in PACKAGES if name not in missing], "torch": None}
    findings = await detect(settings(), Machine(trainer=json.dumps(facts)))
    assert findings.capability.models == models
    assert any(f"lacks {next(iter(missing))}" in said for said in findings.complaints)


async def test_the_host_permits_models_and_a_wrong_name_is_said(
    settings: Callable[..., Settings],
) -> None:
    findings = await detect(settings(models="mlp, gbt,resnet"), Machine())
    assert findings.capability.models == ("gbt", "mlp")
    assert any("permits resnet, which is no model" in said for said in findings.complaints)


@pytest.mark.parametrize("told", [None, "", "Segmentation fault", "[]", '{"packages": 3}'])
async def test_an_interpreter_that_gives_no_answer_offers_nothing(
    settings: Callable[..., Settings], told: str | None
) -> None:
    findings = await detect(settings(python="/p"), Machine(trainer=told))
    assert findings.capability.models == ()
    assert findings.capability.torch is None
    assert any("/p gave no answer" in said for said in findings.complaints)


@pytest.mark.parametrize("told", [None, "", "no", '[{"kind": "cuda"}]'])
async def test_a_gpu_driver_that_gives_no_answer_offers_no_gpu(
    settings: Callable[..., Settings], told: str | None
) -> None:
    assert (await detect(settings(), Machine(nvml=told))).capability.gpus == ()


@pytest.mark.parametrize(
    ("gpus", "names"), [(None, ["RTX 0", "RTX 1"]), ("1", ["RTX 1"]), ("none", []), ("0,5", ["RTX 0"])]
)
async def test_gpus_are_offered_as_the_driver_and_the_operator_say(
    settings: Callable[..., Settings], gpus: str | None, names: list[str]
) -> None:
    findings = await detect(settings(gpus=gpus), Machine(nvml=json.dumps(GPUS)))
    assert [gpu.name for gpu in findings.capability.gpus] == names
    assert any("--gpus names devices" in said for said in findings.complaints) is (gpus == "0,5")


async def test_torchs_own_devices_come_with_nvidias(
    settings: Callable[..., Settings],
) -> None:
    facts = FACTS | {"gpus": [{"kind": "rocm", "name": "MI300X", "vram_gib": 192}]}
    found = (await detect(settings(), Machine(trainer=json.dumps(facts)))).capability
    assert [gpu.kind for gpu in found.gpus] == ["rocm"]
    assert found.vram_gib == 0  # only CUDA counts as CUDA


async def test_the_commit_and_its_dirtiness_are_told(
    settings: Callable[..., Settings],
) -> None:
    machine = Machine(**{"ls-files": "run.py\n", "rev-parse": "c0ffee\n", "status": " M run.py\n"})
    found = (await detect(settings(), machine)).capability
    assert (found.git_commit, found.git_dirty) == ("c0ffee", True)
    assert any("/src/fleet_trainer" in command for command in machine.asked)


async def test_a_folder_that_git_does_not_track_has_no_commit(
    settings: Callable[..., Settings],
) -> None:
    """An environment inside somebody's checkout would otherwise report that checkout's commit."""
    machine = Machine(**{"ls-files": "", "rev-parse": "c0ffee\n", "status": ""})
    found = (await detect(settings(), machine)).capability
    assert (found.git_commit, found.git_dirty) == (None, None)


async def test_overrides_let_two_agents_share_a_machine(
    settings: Callable[..., Settings],
) -> None:
    found = (await detect(settings(cores=1, ram_gib=0.5, max_jobs=3), Machine())).capability
    assert (found.cores, found.ram_gib, found.max_jobs) == (1, 0.5, 3)
    assert (
        await detect(settings(cores=5, max_jobs=None), Machine())
    ).capability.max_jobs == 5  # as many as fit


async def test_asking_ends_a_program_that_hangs() -> None:
    async with asyncio.timeout(20):
        assert await ask(["sleep", "1000"], 0.05) is None


async def test_asking_tells_nothing_where_there_is_nothing() -> None:
    assert await ask(["/no/such/program"], 1) is None
    assert await ask(["false"], 10) is None
    assert await ask(["echo", "x"], 10) == "x\n"


async def test_this_machine_for_real(
    settings: Callable[..., Settings],
) -> None:
    findings = await detect(settings())
    assert findings.capability.python == ".".join(map(str, sys.version_info[:3]))
    assert findings.capability.models, findings.complaints
    assert cpu_name()
    assert boot_id() == boot_id() is not None
