"""The two commands of the README on a machine where nothing is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.rig.programs import environment

SOURCES = ("FLEET_TORCH_INDEX",)  # where to install from is this machine's affair
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Demo:
    install_seconds: float
    run_seconds: float
    training_seconds: float
    """Of the busier agent's trainers, one after the other: less than that the demo cannot take."""


def demo(folder: Path) -> Demo:
    """What is committed, in a fresh clone and an empty environment, without pip's cache; then the demo there."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    install = _timed(folder, "setup")
    run = _timed(folder, "demo", "--json")
    return Demo(install[0], run[0], _busiest(json.loads(run[1])["jobs"]))


def _timed(folder: Path, *command: str) -> tuple[float, bytes]:
    kept = environment() | {name: os.environ[name] for name in SOURCES if name in os.environ}
    python = getattr(sys, "_base_executable", sys.executable)
    began = time.perf_counter()
    done = subprocess.run(
        [python, "run.py", *command],
        cwd=folder,
        env=kept | {"PIP_NO_CACHE_DIR": "1"},
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        check=True,
    )
    return time.perf_counter() - began, done.stdout


def _busiest(jobs: list[dict[str, str | None]]) -> float:
    seconds: dict[str, float] = {}
    for job in jobs:
        if job["worker"] and job["started_at"] and job["finished_at"]:
            ran = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
            seconds[job["worker"]] = seconds.get(job["worker"], 0) + ran.total_seconds()
    return max(seconds.values())
