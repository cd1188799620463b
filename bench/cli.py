"""The command line's figures: what each start costs, a list of ten thousand jobs, Tab, and what an agent installs.

python3 run.py bench cli                      all of them, about two minutes
python3 run.py bench cli --only NAME,NAME     those whose names begin so, as help or list
python3 run.py bench cli --quick              all of them, small: whether it works, not how fast it is
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.figure import Figure
from bench.rig.demo import ROOT
from bench.rig.place import Parts, Place, chosen
from bench.rig.programs import grid

PYTHON = (sys.executable, "-I", "-c", "pass")
FLEET = str(Path(sys.executable).with_name("fleet"))


def measure(*options: str) -> Iterator[Figure]:
    return chosen(PARTS, *options)


def helping(place: Place, name: str) -> Iterator[Figure]:
    """Medians; the interpreter's own start is part of it, and stands beside it."""
    bare = median(_cost(*PYTHON)[0] for _ in range(_runs(place)))
    took = median(_cost(FLEET, "--help")[0] for _ in range(_runs(place)))
    limit = Figure(f"at most; an empty program takes {bare:.0f}", 150, "ms of CPU time")
    yield Figure(name, took, "ms of CPU time", limit)


def listing(place: Place, name: str) -> Iterator[Figure]:
    jobs = 200 if place.quick else 10_000
    with place.fleet(grid(jobs)) as fleet:
        told = {"FLEET_URL": fleet.url, "FLEET_TOKEN": fleet.token("operator")}
        listed = subprocess.check_output([FLEET, "list", "--json"], env=os.environ | told)
        shown = len(json.loads(listed)["jobs"])
        took = [_cost(FLEET, "list", **told)[1] for _ in range(_runs(place))]
        yield Figure(
            name, median(took), f"ms end to end, {shown} jobs", Figure("an empty program", _bare(), "ms")
        )
        tab = {"_FLEET_COMPLETE": "complete_bash", "COMP_WORDS": "fleet show grid", "COMP_CWORD": "2"}
        took = [_cost(FLEET, **told, **tab)[1] for _ in range(_runs(place))]
        yield Figure(
            "completion_ms", median(took), f"ms from Tab to {jobs} jobs' names, the first 200 of them"
        )


def installing(place: Place, name: str) -> Iterator[Figure]:
    """Without torch and the trainer, and without pip, into a folder of their own."""
    folder = place.new_folder()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(folder)]
    subprocess.run([*pip, f"{ROOT}[agent]"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    yield Figure(name, size / 2**20, "MiB", Figure("aim", 25, "MiB"))
    packages = len(list(folder.glob("*.dist-info")))
    yield Figure("agent_packages", packages, "packages, this one included", Figure("aim", 23, "packages"))


def _runs(place: Place) -> int:
    return 1 if place.quick else 9


def _bare() -> float:
    return median(_cost(*PYTHON)[1] for _ in range(5))


def _cost(*command: str, **told: str) -> tuple[float, float]:
    """Milliseconds of CPU time and on the clock."""
    before, began = _spent(), time.perf_counter()
    subprocess.run(command, env=os.environ | told, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (_spent() - before), 1000 * (time.perf_counter() - began)


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


PARTS: Parts = {"help_cpu_ms": helping, "list_10000_ms": listing, "agent_install_mib": installing}
