"""Whole fleets under everything a network and machines do, in virtual time; each seed is one history.

FLEET_SIMULATION_SEED=7 runs that one alone; `python3 run.py simulate` runs as many as one has time for.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from fleet_server.schema import migrate
from tests.simulation.fleet import Report, simulate

ALONE = os.environ.get("FLEET_SIMULATION_SEED")
SEEDS = [int(ALONE)] if ALONE else list(range(22))
SOMETIMES = (
    "answer lost: claim",
    "answer lost: complete",
    "answer lost: start",
    "cancel of a running job: cancelled",
    "claim replayed",
    "complete refused: stale_attempt",
    "complete replayed",
    "coordinator ended while trainers ran",
    "drain released",
    "event accepted",
    "event failed",
    "event retried",
    "fail replayed",
    "heartbeat told stop",
    "logged attempt_adopted",
    "logged coordinator_was_paused",
    "logged ending_now",
    "disk full: agent",
    "disk full: coordinator",
    "killed while it wrote its state",
    "lost: no heartbeat",
    "lost: no start",
    "lost: trainer gone",
    "operator: again",
    "PUT model refused: digest_mismatch",
    "release replayed",
    "request came after its caller gave up",
    "request came twice",
    "start refused: stale_attempt",
    "start replayed",
    "trained twice at once",
    "trainer adopted by a later agent",
    "websocket opened",
)
"""What these fleets have to have lived through, or their quiet end says little."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulation") / "fleet.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.mark.timeout(1200)
def test_no_fleet_breaks_a_promise(tmp_path: Path, database: Path):
    reports = [simulate(seed, tmp_path / str(seed), database) for seed in SEEDS]
    assert not _told(reports)
    if not ALONE:
        reached: Counter[str] = sum((report.sometimes for report in reports), Counter())
        assert not [what for what in SOMETIMES if not reached[what]], "never happened in any fleet"


def test_a_seed_is_one_history(tmp_path: Path, database: Path):
    first, second = (simulate(3, tmp_path / name, database, hours=0.3) for name in ("first", "second"))
    assert first.trace == second.trace


def _told(reports: list[Report]) -> str:
    return "\n".join(
        f"FLEET_SIMULATION_SEED={report.seed} pytest tests/simulation -- " + "\n    ".join(report.broken)
        for report in reports
        if report.broken
    )
