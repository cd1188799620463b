"""Whether jobs can run in the surroundings of this very process: asked before anything is registered.

A service has another account, PATH, sandbox and view of the GPU than the shell that installs it, so the trial is run
where the service will be. It trains for seconds what any working trainer learns without a mistake.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from fleet_agent.doctor import state_faults
from fleet_agent.errors import AgentError
from fleet_agent.hardware import Findings, ask, detect
from fleet_agent.settings import Settings

TRIAL_MODELS = ("gbt", "mlp")
TRIAL_SECONDS = 300.0  # torch's first import from a slow card takes minutes
SAMPLES, CASES = 20, 60
HEADER = f"""@problemName trial
@timeStamps false
@missing false
@univariate true
@equalLength true
@seriesLength {SAMPLES}
@classLabel true up down
@data
"""


async def self_test(settings: Settings) -> Iterator[str]:
    """What was found, a line each. AgentError says what a job would stumble over here."""
    findings = await detect(settings)
    faults = [*findings.faults, *state_faults(settings.state)]
    if faults:
        raise AgentError("\n".join(faults))
    capability = findings.capability
    gpus = ", ".join(f"{gpu.name} ({gpu.vram_gib:.1f} GiB)" for gpu in capability.gpus) or "none"
    lines = [
        f"{capability.cores} cores, {capability.ram_gib:.1f} GiB, GPU: {gpus}",
        f"models: {', '.join(capability.models) or 'none of the built-in ones'}",
        *findings.notes,
        await _trial(settings, findings),
    ]
    return iter(lines)


async def _trial(settings: Settings, findings: Findings) -> str:
    model = next((model for model in TRIAL_MODELS if model in findings.capability.models), None)
    if model is None:
        return "no trial: no built-in model that is quick enough is installed and permitted"
    folder = settings.state.absolute() / "self-test"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        accuracy = await _train(settings.python, model, folder)
    except OSError as error:
        raise AgentError(f"The state folder {settings.state} cannot be used: {error.strerror}.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if accuracy != 1.0:
        found = "the training failed" if accuracy is None else f"accuracy {accuracy:g}, where only 1 is right"
        raise AgentError(f"The trial of {model} did not go well here: {found}.")
    return f"trial: {model} learned a known answer"


async def _train(python: str, model: str, folder: Path) -> float | None:
    """The accuracy on data that tells its labels plainly; None where the trainer failed."""
    for name in ("train", "test"):
        (folder / f"{name}.ts").write_text(HEADER + "".join(_cases()))
    spec = {
        "schema": 1, "job_id": "0" * 16, "name": "self-test", "model": model, "mode": "realistic",
        "hyper": {"decimation": 1, "window_seconds": float(SAMPLES), "stride_seconds": float(SAMPLES)},
        "split_recipe": "host", "train_hosts": ["train"], "seed": 0, "n_resamples": 10, "dataset": None,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(spec))
    (folder / "output").mkdir()
    trainer = [python, "-m", "fleet_trainer"]
    files = [str(folder / "train.ts"), str(folder / "test.ts"), "--out", str(folder / "data")]
    run = [
        "run",
        "--spec",
        str(folder / "job.json"),
        "--data",
        str(folder / "data"),
        "--out",
        str(folder / "output"),
    ]
    if await ask([*trainer, "convert", "ts", *files], TRIAL_SECONDS) is None:
        return None
    if await ask([*trainer, *run], TRIAL_SECONDS) is None:
        return None
    metrics = json.loads((folder / "output" / "metrics.json").read_text("utf-8"))["metrics"]
    return float(metrics["accuracy"]["value"])


def _cases() -> Iterator[str]:
    for case in range(CASES):
        for level, label in ((3, "up"), (-3, "down")):
            values = (f"{level + math.sin(sample + case):.3f}" for sample in range(SAMPLES))
            yield f"{','.join(values)}:{label}\n"
