"""The command line and the SDK against the real coordinator: where the small one of the other tests could be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_client import FleetClient
from fleet_client.demo.programs import address, kept, start
from fleet_client.errors import Conflict, NotAuthenticated, NotFound
from fleet_protocol.events import EventsFrame, SnapshotFrame
from fleet_protocol.states import JobStatus

MANIFEST = """
schema_version = 1
[[jobs]]
name = "small"
model = "gbt"
[[jobs]]
name = "grid/lr=0.1"
model = "gbt"
hyper = { lr = 0.1 }
"""


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A coordinator of its own, whose tokens are found by themselves."""
    monkeypatch.delenv("FLEET_TOKEN")
    manifest = tmp_path / "training_manifest.toml"
    manifest.write_text(MANIFEST)
    arguments = [
        "fleet_server",
        "serve",
        "--port",
        "0",
        "--data",
        str(tmp_path / "data"),
        "--manifest",
        str(manifest),
    ]
    server = start("coordinator", arguments, tmp_path / "log")
    async with kept([server]):
        yield await address(server)


@dataclass(frozen=True)
class Ending:
    code: int
    out: str
    err: str


def fleet(url: str, *arguments: str) -> Ending:
    ended = subprocess.run(
        [sys.executable, "-m", "fleet_client", *arguments, "--url", url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ending(ended.returncode, ended.stdout, ended.stderr)


async def test_an_operators_day(url: str, tmp_path: Path):
    manifest = str(tmp_path / "training_manifest.toml")
    assert fleet(url, "reload").code == 0
    plan = json.loads(fleet(url, "plan", manifest, "--json").out)
    assert (plan["changed"], [entry["category"] for entry in plan["entries"]]) == (
        False,
        ["pending", "pending"],
    )
    assert "2 pending" in fleet(url, "status").out
    assert "no worker has said hello" in fleet(url, "list").out
    listed = json.loads(fleet(url, "list", "--search", "grid", "--json").out)["jobs"]
    assert [job["name"] for job in listed] == ["grid/lr=0.1"]
    shown = json.loads(fleet(url, "show", "grid/lr=0.1", "--json").out)
    assert shown["spec"]["hyper"] == {"lr": 0.1}
    assert fleet(url, "explain", shown["job_id"][:6]).code == 0
    assert "cancelled" in fleet(url, "cancel", "small").out
    again = fleet(url, "cancel", "small")
    assert (again.code, again.out) == (1, "")
    assert "is cancelled" in again.err
    assert "pending" in fleet(url, "requeue", "small").out


async def test_refusals_in_the_real_coordinators_words(url: str, tmp_path: Path):
    assert (
        "unknown" in fleet(url, "show", "nonesuch").err.lower()
        or "no job" in fleet(url, "show", "nonesuch").err
    )
    (tmp_path / "bad.toml").write_text(MANIFEST + "prioritty = 3\n")
    ending = fleet(url, "reload", str(tmp_path / "bad.toml"))
    assert ending.code == 1
    assert "bad.toml:10" in ending.err
    assert "did you mean" in ending.err
    log = fleet(url, "logs", "small")
    assert log.code == 1
    assert "Traceback" not in log.err


async def test_the_sdk_and_the_events(url: str, tmp_path: Path):
    token = (tmp_path / "data/tokens/operator").read_text().strip()
    async with FleetClient(url, token) as fleet:
        assert (await fleet.ready()).ready
        assert (await fleet.manifest()).toml == MANIFEST
        assert (await fleet.workers()).workers == ()
        assert (await fleet.artifacts()).models == ()
        events = fleet.events()
        snapshot = await anext(events)
        assert isinstance(snapshot, SnapshotFrame)
        assert {job.name for job in snapshot.jobs} == {"small", "grid/lr=0.1"}
        await fleet.cancel("small", "too dear")
        while not isinstance(frame := await anext(events), EventsFrame):
            pass
        await events.aclose()
        assert [(event.kind, event.job and event.job.status) for event in frame.events] == [
            ("cancelled", JobStatus.CANCELLED)
        ]
        with pytest.raises(Conflict):
            await fleet.cancel("small")
        with pytest.raises(NotFound):
            await fleet.job("nonesuch")
    async with FleetClient(url, "wrong") as stranger:
        with pytest.raises(NotAuthenticated):
            await stranger.jobs()
        with pytest.raises(NotAuthenticated):
            await anext(stranger.events())
