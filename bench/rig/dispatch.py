"""From an operator's order to a trainer's first act, on an idle fleet of one agent."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from bench.figure import Figure
from bench.rig.programs import Fleet, wait_for

QUIET_SECONDS = 0.25  # until the agent waits at the coordinator again: the fleet is to be idle
REFUSED = 2  # an exit code that ends the job at once, so that it can be requeued
FACTS = {"packages": ["fleet_trainer", "numpy", "polars", "lightgbm"]}


def interpreter(folder: Path) -> Path:
    """A `python` that answers the agent's question for models, and as a trainer writes the time and ends."""
    script = folder / "python"
    script.write_text(
        f'#!/bin/bash\nif [ "$1" = -c ]; then echo {shlex.quote(json.dumps(FACTS))}; exit; fi\n'
        f"echo $EPOCHREALTIME >> {shlex.quote(str(folder / 'started'))}\nexit {REFUSED}\n"
    )
    script.chmod(0o755)
    return script


def times(folder: Path) -> list[float]:
    """When each trainer began, in seconds of the wall clock, by the trainer's own."""
    file = folder / "started"
    return [float(line) for line in file.read_text().split()] if file.exists() else []


def _more_than(number: int, folder: Path) -> bool:
    return len(times(folder)) > number


def dispatches(fleet: Fleet, folder: Path, count: int) -> list[float]:
    """Milliseconds from before the request is sent until the trainer's process looks at the clock.

    Inside are the request, its durable commit, the matching, the claim's durable commit, the answer to the
    agent's long poll, the attempt on the agent's disk (three files synced), and two processes: the supervising
    shell and the trainer itself.
    """
    took = []
    with fleet.client("operator") as http:
        job = http.get("/v1/jobs").json()["jobs"][0]["job_id"]
        for number in range(1, count + 2):
            wait_for(lambda: http.get(f"/v1/job/{job}").json()["status"] == "failed", "the job to end")
            time.sleep(QUIET_SECONDS)
            began = time.time()
            http.post(f"/v1/job/{job}/requeue", json={}).raise_for_status()
            wait_for(partial(_more_than, number, folder), "the trainer to start")
            took.append(1000 * (times(folder)[number] - began))
    return took[1:]  # the first one also warms everything up


def figures(fleet: Fleet, folder: Path, script: Path, count: int) -> Iterator[Figure]:
    took = dispatches(fleet, folder, count)
    limit = spawns(folder, script, count)
    bare = "starting two processes"
    yield Figure("dispatch_ms", median(took), "ms", Figure(bare, median(limit), "ms"))
    yield Figure("dispatch_p95_ms", _p95(took), "ms", Figure(bare, _p95(limit), "ms"))


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


def spawns(folder: Path, script: Path, count: int) -> list[float]:
    """The limit: milliseconds for this process to start the same trainer under a shell, and nothing else."""
    took = []
    for _ in range(count):
        before, began = len(times(folder)), time.time()
        subprocess.run(["/bin/sh", "-c", '"$@"; exit 0', "sh", str(script), "-m"], check=True)
        took.append(1000 * (times(folder)[before] - began))
    return took
