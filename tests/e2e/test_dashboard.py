"""From a failure to its repair by keys alone: the real dashboard in a terminal, a real coordinator, a real agent."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from fleet_protocol.states import JobStatus
from tests.e2e.house import House
from tests.tui.terminal import Terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals"),
]
TESTS = Path(__file__).parents[1]
TRAIN = """
import pathlib, sys
print("reading the sensor table", flush=True)
if not pathlib.Path(sys.argv[1]).exists():
    raise ValueError("no calibration for wrist")
print("all is well", flush=True)
"""
MANIFEST = """schema_version = 1
[defaults]
min_ram_gib = 0.1
[models.script]
command = ["python", {program!r}, {repaired!r}]
[[jobs]]
name = "wrist"
model = "script"
max_attempts = 1
"""


def test_a_failed_job_is_understood_requeued_and_completes_by_keys(house: House) -> None:
    program, repaired = house.folder / "train.py", house.folder / "calibration"
    program.write_text(TRAIN)
    house.serve(MANIFEST.format(program=str(program), repaired=str(repaired)))
    house.agent("worker", real=True)
    token = (house.folder / "server" / "tokens" / "operator").read_text().strip()
    terminal = Terminal("--url", house.url, home=house.folder / "notes", FLEET_TOKEN=token)
    try:
        terminal.until("● live")
        terminal.until("✗ 1")  # the header counts a failure
        terminal.type(b"2")
        for told in ("ValueError: no calibration for wrist", "reading the sensor table", "raise ValueError("):
            terminal.until(told)
        repaired.touch()

        terminal.type(b"r")
        terminal.until("Requeue this job?")
        terminal.type(b"y")
        terminal.until("requeued wrist")
        terminal.type(b"1")
        terminal.until("✓ 1")
        terminal.until("all is well")
        terminal.type(b"q")

        assert terminal.ended() == 0
    finally:
        terminal.close()
    assert house.job("wrist").status is JobStatus.COMPLETED
    assert [kind for kind in house.story("wrist") if kind in ("failed", "requeued", "completed")] == [
        "failed",
        "requeued",
        "completed",
    ]


def test_every_promise_of_its_page_names_a_test_that_exists() -> None:
    page = (TESTS.parent / "docs" / "reference" / "dashboard.md").read_text("utf-8")
    named = re.findall(r"`(\S+\.py)::(test_\w+)`", page)
    assert len(named) > 30
    missing = [test for file, test in named if f"def {test}(" not in (TESTS / file).read_text("utf-8")]
    assert not missing
