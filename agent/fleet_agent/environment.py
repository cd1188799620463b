"""A trainer's command and its environment, built from nothing: what is not named here does not reach a job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fleet_agent.settings import Settings
from fleet_agent.state import AttemptFolder
from fleet_protocol.capability import Capability
from fleet_protocol.jobs import JobSpec

# The account and its language, and what the dynamic linker needs to find a GPU's libraries.
INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "HSA_OVERRIDE_GFX_VERSION",
    "SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
)  # fmt: skip


def account_environment(source: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The part of this process's environment that any child gets. Never a token, never a FLEET_ variable."""
    kept = {name: source[name] for name in INHERITED if name in source}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept}


def trainer_command(settings: Settings) -> list[str]:
    """The built-in trainer. A path to the interpreter is made absolute: jobs run in folders of their own."""
    python = Path(settings.python)
    program = settings.python if python.name == settings.python else str(python.absolute())
    return [program, "-m", "fleet_trainer", "run"]


def device(job: JobSpec, capability: Capability) -> str:
    """`cuda` where the job asked for it and this machine has it; everything else trains on the CPU."""
    wants = job.needs.require_cuda or job.needs.prefer_cuda
    return "cuda" if wants and capability.cuda_gpus else "cpu"


def trainer_environment(folder: AttemptFolder, settings: Settings, capability: Capability) -> dict[str, str]:
    """Everything a trainer is told (the contract's FLEET_ variables), and settings that fix its bits."""
    job = folder.job
    threads = job.hyper.get("threads", 1)
    threads = str(threads if type(threads) is int and threads > 0 else 1)
    where = device(job, capability)
    environment = account_environment() | {
        "TMPDIR": str(folder["tmp"]),
        "PYTHONUNBUFFERED": "1",  # or a live log comes in lumps of 8 KiB
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS is not deterministic
        "TQDM_MININTERVAL": "5",
        "COLUMNS": "120",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
        "FLEET_JOB_SPEC": str(folder["job.json"]),
        "FLEET_OUTPUT_DIR": str(folder["output"]),
        "FLEET_CHECKPOINT_DIR": str(folder["checkpoint"]),
        "FLEET_EVENTS": str(folder["events.jsonl"]),
        "FLEET_SEED": str(job.seed),
        "FLEET_THREADS": threads,
        "FLEET_DEVICE": where,
        "FLEET_ATTEMPT": str(folder.record.number),
        "FLEET_GRACE_S": str(int(settings.grace)),
    }
    if settings.data is not None:
        environment["FLEET_DATA"] = str(settings.data.absolute())
    if where == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    elif settings.devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, settings.devices))
    return environment
