"""The measurements work; what they measure on a busy machine is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench import core, logs
from bench.rig.commits import commits_per_second
from bench.rig.demo import ROOT
from bench.rig.dispatch import dispatches, interpreter
from bench.rig.programs import running, tables

from tests.e2e.programs import left_behind

pytestmark = pytest.mark.e2e


def test_dispatches_are_timed(tmp_path: Path):
    script = interpreter(tmp_path)
    with running(tmp_path / "fleet", manifest=tables(1)) as fleet:
        fleet.agent("bench", str(script))
        took = dispatches(fleet, tmp_path, 2)
    assert len(took) == 2
    assert all(milliseconds > 0 for milliseconds in took)
    assert not left_behind(tmp_path)


def test_claims_are_counted_beside_plain_commits(tmp_path: Path):
    with running(tmp_path / "fleet", manifest=tables(40)) as fleet, fleet.client("agent") as http:
        token = http.headers["Authorization"].removeprefix("Bearer ")
        load = [sys.executable, "-m", "bench.rig.load", fleet.url, token, "8", "40"]
        told = json.loads(subprocess.check_output(load, cwd=ROOT))
    assert told["per_second"] > 0
    assert commits_per_second(tmp_path, 40) > 0


PARTS = (
    "claims_sqlite_32",
    "claim_growth_sqlite",
    "reload_unchanged",
    "lock_errors_postgres",
    "explain",
    "heartbeat",
)


LOG_PARTS = (
    "log_ingest_1",
    "line_to_viewer",
    "stalled_viewer",
    "upload",
    "agent_idle",
    "dispatch",
    "tail",
    "noop",
)


@pytest.mark.parametrize("part", LOG_PARTS)
def test_logs_and_agents_are_measured(part):
    figures = list(logs.measure("--quick", "--only", part))
    assert figures
    assert all(figure.value >= 0 for figure in figures)


@pytest.mark.parametrize("part", PARTS)
def test_the_core_is_measured(part):
    figures = list(core.measure("--quick", "--only", part))
    assert figures
    if part.startswith("lock_errors"):
        assert [figure.value for figure in figures] == [0]
    else:
        assert all(figure.value > 0 for figure in figures)
