"""The main job's figures: from nothing to a trained demo, from an order to a trainer, claims, memory at rest.

python3 run.py bench main             all of them; the demo is installed anew, which takes minutes
python3 run.py bench main --no-demo   without that
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.rig import dispatch
from bench.rig.commits import commits_per_second
from bench.rig.demo import ROOT, demo
from bench.rig.programs import rss_mib, running, tables

DISPATCHES = 50
WORKERS, CLAIMS = 32, 1500
REST_SECONDS = 5.0


def measure(*options: str) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as place:
        folder = Path(place)
        yield from resting_and_dispatching(folder)
        yield from claiming(folder)
        if "--no-demo" not in options:
            yield from from_nothing(folder)


def resting_and_dispatching(folder: Path) -> Iterator[Figure]:
    script = dispatch.interpreter(folder)
    with running(folder / "dispatch", manifest=tables(1)) as fleet:
        agent = fleet.agent("bench", str(script))
        time.sleep(REST_SECONDS)
        yield Figure("server_rss_mib", rss_mib(fleet.server.pid), "MiB")
        yield Figure("agent_rss_mib", rss_mib(agent.pid), "MiB")
        yield from dispatch.figures(fleet, folder, script, DISPATCHES)


def claiming(folder: Path) -> Iterator[Figure]:
    """Claims only: nothing is started or reported, so that each costs one request and one durable change."""
    with running(folder / "claims", manifest=tables(CLAIMS)) as fleet, fleet.client("agent") as http:
        token = http.headers["Authorization"].removeprefix("Bearer ")
        load = [sys.executable, "-m", "bench.rig.load", fleet.url, token, str(WORKERS), str(CLAIMS)]
        told = json.loads(subprocess.check_output(load, cwd=ROOT))
        loaded = rss_mib(fleet.server.pid)
    limit = Figure("one claim a commit, sqlite3 alone", commits_per_second(folder, CLAIMS), "1/s")
    yield Figure(f"claims_sqlite_{WORKERS}", told["per_second"], "1/s", limit)
    yield Figure(f"claims_sqlite_{WORKERS}_median_ms", told["median_ms"], "ms")
    yield Figure("server_rss_mib_after_claims", loaded, "MiB")


def from_nothing(folder: Path) -> Iterator[Figure]:
    took = demo(folder / "demo")
    yield Figure("demo_install_s", took.install_seconds, "s")
    limit = Figure("the busier agent's training", took.training_seconds, "s")
    yield Figure("demo_run_s", took.run_seconds, "s", limit)
