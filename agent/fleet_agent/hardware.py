"""Finds out what this machine offers. A probe that gives no answer in time leaves `None`, never a guess.

Whatever may hang or is heavy (the GPU driver, torch, git) is asked of a child process with a time limit; which
models are installed is the trainer's interpreter's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from fleet_agent.environment import account_environment
from fleet_agent.settings import Settings
from fleet_protocol.capability import MOST_JOBS, Capability, Gpu

GIB = 2**30
QUICK_SECONDS, TRAINER_SECONDS = 5.0, 60.0
NET_NEEDS = ("fleet_trainer", "numpy", "polars", "safetensors", "torch")
MODEL_NEEDS = {
    "gbt": ("fleet_trainer", "numpy", "polars", "lightgbm"),
    **dict.fromkeys(("mlp", "cnn", "gru", "lstm", "transformer", "transformer_ssl"), NET_NEEDS),
}
DATA_FILES = ("data.parquet", "dataset.json")
"""What each model reads, as `fleet-train convert` writes it."""
PACKAGES = sorted({package for needs in MODEL_NEEDS.values() for package in needs})

# Runs in the trainer's interpreter. torch is imported only where nothing lighter can tell of its devices.
TRAINER_PROBE = """
import importlib.metadata, importlib.util, json, platform, sys

def gpus(version):
    if "rocm" in version:
        import torch
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            yield gpu("rocm", device.name, device.total_memory, torch.version.hip)
    elif sys.platform == "darwin":
        import torch
        if torch.backends.mps.is_available():
            yield gpu("mps", platform.processor() or "Apple", torch.mps.recommended_max_memory(), None)

def gpu(kind, name, size, driver):
    return {"kind": kind, "name": name, "vram_gib": round(size / 2**30, 2), "driver": driver}

found = {name: spec for name in sys.argv[1:] if (spec := importlib.util.find_spec(name))}
version = importlib.metadata.version("torch") if "torch" in found else None
trainer = importlib.import_module("fleet_trainer").TRAINER_VERSION if "fleet_trainer" in found else None
print(json.dumps({
    "python": platform.python_version(),
    "packages": list(found),
    "source": found["fleet_trainer"].origin if "fleet_trainer" in found else None,
    "torch": version,
    "trainer": trainer,
    "gpus": list(gpus(version or "")),
}))
"""

Asking = Callable[[Sequence[str], float], Awaitable[str | None]]
"""Runs a command with a time limit in seconds; its output, or None."""


class TrainerFacts(BaseModel):
    """What the trainer's interpreter says of itself."""

    model_config = ConfigDict(frozen=True)

    python: str | None = None
    packages: tuple[str, ...] = ()
    torch: str | None = None
    trainer: str | None = None
    source: str | None = None
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What is advertised, and in one sentence each what is wrong with this machine."""

    capability: Capability
    faults: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Not wrong by themselves."""

    @property
    def complaints(self) -> tuple[str, ...]:
        return (*self.faults, *self.notes)


async def ask(command: Sequence[str], seconds: float) -> str | None:
    """The command's standard output; None when it cannot run, fails, or takes longer than `seconds`."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=account_environment(),
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(seconds):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return None
    return output.decode(errors="replace") if child.returncode == 0 else None


async def detect(settings: Settings, asking: Asking = ask) -> Findings:
    """Probe everything at once. UsageError when a permitted model is not one of fleet's."""
    async with asyncio.TaskGroup() as group:
        nvidia = group.create_task(_nvidia(asking))
        trainer = group.create_task(_trainer(settings, asking))
    facts = trainer.result()
    commit, dirty = await _git(settings.git or _folder(facts), asking)
    gpus = _offered(nvidia.result() + (facts.gpus if facts else ()), settings.devices)
    installed = [model for model, needs in MODEL_NEEDS.items() if facts and set(needs) <= set(facts.packages)]
    permitted = settings.permitted
    cores = settings.cores or usable_cores()
    capability = Capability(
        hostname=platform.node()[:300],
        os=f"{platform.system()} {platform.release()} {platform.machine()}"[:300],
        cores=cores,
        ram_gib=settings.ram_gib if settings.ram_gib is not None else round(usable_bytes() / GIB, 2),
        gpus=gpus,
        models=tuple(model for model in installed if permitted is None or model in permitted),
        commands=settings.runs_commands,
        datasets=True,
        data=_lacking_data(settings.data) is None,
        max_jobs=settings.max_jobs or min(cores, MOST_JOBS),
        python=facts.python if facts else None,
        torch=facts.torch if facts else None,
        trainer=facts.trainer if facts else None,
        cpu=cpu_name(),
        git_commit=commit,
        git_dirty=dirty,
    )
    faults, notes = _faults(settings, facts, capability), _notes(settings, facts, capability)
    return Findings(capability, tuple(faults), tuple(notes))


def _faults(settings: Settings, facts: TrainerFacts | None, capability: Capability) -> Iterator[str]:
    """What somebody asked for and this machine does not do."""
    if facts is None:
        yield f"{settings.python} gave no answer; name the trainer's interpreter by --python."
    elif missing := [name for name in _needed(settings.permitted or ()) if name not in facts.packages]:
        yield f"{settings.python} lacks {', '.join(missing)}, which models need that --models permits."
    for name in sorted((settings.permitted or frozenset()) - MODEL_NEEDS.keys()):
        yield f"--models permits {name}, which is no model of fleet's ({', '.join(MODEL_NEEDS)})."
    if not capability.models and not capability.commands:
        yield "No model is both permitted and installed here: this worker will get no job."
    if settings.devices and len(capability.gpus) < len(settings.devices):
        yield f"--gpus names devices that are not here; found {len(capability.gpus)}."


def _notes(settings: Settings, facts: TrainerFacts | None, capability: Capability) -> Iterator[str]:
    """What may be meant to be so."""
    missing = [name for name in PACKAGES if facts and name not in facts.packages]
    if missing and settings.permitted is None:
        yield f"{settings.python} lacks {', '.join(missing)}: models that need them are not offered."
    if not capability.models and capability.commands:
        yield "No model is both permitted and installed here: this worker will get only the manifest's own programs."
    elif capability.models and (lacking := _lacking_data(settings.data)):
        yield f"{lacking}. Until then this worker gets only jobs that name a `dataset`."


def _needed(models: Iterable[str]) -> list[str]:
    return sorted({package for model in models for package in MODEL_NEEDS.get(model, ())})


def _lacking_data(folder: Path | None) -> str | None:
    """In half a sentence, why no job finds data here and what to do; None when it would."""
    advice = "name a folder with data by --data (`fleet-train convert` makes one), as every model reads some"
    if folder is None:
        return f"No --data folder is named; {advice}"
    missing = [name for name in DATA_FILES if not (folder / name).is_file()]
    return f"--data {folder} has no {' and no '.join(missing)}; {advice}" if missing else None


def _offered(gpus: tuple[Gpu, ...], devices: tuple[int, ...] | None) -> tuple[Gpu, ...]:
    return gpus if devices is None else tuple(gpu for number, gpu in enumerate(gpus) if number in devices)


async def _nvidia(asking: Asking) -> tuple[Gpu, ...]:
    told = await asking([sys.executable, "-m", "fleet_agent.nvml"], QUICK_SECONDS)
    try:
        return TypeAdapter(tuple[Gpu, ...]).validate_json(told or "[]")
    except ValidationError:
        return ()


async def _trainer(settings: Settings, asking: Asking) -> TrainerFacts | None:
    told = await asking([settings.python, "-c", TRAINER_PROBE, *PACKAGES], TRAINER_SECONDS)
    try:
        return TrainerFacts.model_validate(json.loads(told)) if told else None
    except ValueError:
        return None


def _folder(facts: TrainerFacts | None) -> Path | None:
    return Path(facts.source).parent if facts and facts.source else None


async def _git(folder: Path | None, asking: Asking) -> tuple[str | None, bool | None]:
    """Commit and dirtiness of `folder`'s checkout; nothing where git does not track what is in it."""
    if folder is None:
        return None, None
    git = ["git", "-C", str(folder)]
    # An environment inside a checkout is not of it: its commit would be a lie.
    if not await asking([*git, "ls-files", "--", "."], QUICK_SECONDS):
        return None, None
    commit = await asking([*git, "rev-parse", "HEAD"], QUICK_SECONDS)
    changes = await asking([*git, "status", "--porcelain", "--untracked-files=no"], QUICK_SECONDS)
    return commit.strip() if commit else None, None if changes is None else bool(changes.strip())


def usable_cores() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count() or 1


def usable_bytes() -> int:
    """Memory of the machine, or of the container that this runs in."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def cpu_name() -> str | None:
    with contextlib.suppress(OSError):
        found = re.search(
            r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
        if found:
            return found[1].strip()[:300]
    return platform.processor()[:300] or None


def boot_id() -> str | None:
    """Changes with every start of the machine; None where the system has nothing of the kind."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
