"""A trainer's environment, built from nothing: what is not named here does not reach a job."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from pathlib import Path

from fleet_agent.settings import Settings
from fleet_agent.state import AttemptFolder
from fleet_protocol.capability import Capability
from fleet_protocol.jobs import Needs

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


def choose_devices(
    needs: Needs, settings: Settings, capability: Capability, taken: Container[int]
) -> tuple[int, ...]:
    """CUDA devices for a job: the tightest free ones that are large enough, as the coordinator reserves them.

    None means that it trains on the CPU. A job that cannot do without shares what is there rather than that.
    """
    if not needs.require_cuda and not needs.prefer_cuda:
        return ()
    numbers = sorted(settings.devices) if settings.devices is not None else range(len(capability.cuda_gpus))
    able = sorted(
        (gpu.vram_gib, number)
        for number, gpu in zip(numbers, capability.cuda_gpus, strict=False)
        if gpu.vram_gib >= needs.min_vram_gib
    )
    count = max(needs.gpus, 1)
    free = [number for _, number in able if number not in taken][:count]
    if len(free) < count:
        free = [number for _, number in able][:count] if needs.require_cuda else []
    return tuple(sorted(free))


def trainer_environment(folder: AttemptFolder, settings: Settings, data: Path | None) -> dict[str, str]:
    """Everything a trainer is told (the contract's FLEET_ variables), and settings that fix its bits."""
    job = folder.job
    threads = job.hyper.get("threads", 1)
    threads = str(threads if type(threads) is int and threads > 0 else 1)
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
        "FLEET_DEVICE": "cuda" if folder.record.devices else "cpu",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as the driver counts them, and with it --gpus
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, folder.record.devices)),
        "FLEET_ATTEMPT": str(folder.record.number),
        "FLEET_GRACE_S": str(int(settings.grace)),
    }
    if data is not None:
        environment["FLEET_DATA"] = str(data)
    return environment
