"""An operator's questions and orders about plans, placing, late results and training anew: `fleet` against the real
coordinator, workers as their calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_client import FleetClient
from fleet_client.errors import Conflict
from fleet_protocol.states import JobStatus
from fleet_server.schema import migrate
from tests.server.coordinator import Coordinator, FakeClock, digest, job, manifest, running


@dataclass(frozen=True)
class Ending:
    code: int
    out: str
    err: str

    def row(self, words: str) -> str:
        """The one line of the output that has `words`."""
        [line] = [line for line in self.out.splitlines() if words in line]
        return line


@dataclass(frozen=True)
class Lab:
    coordinator: Coordinator
    folder: Path

    async def __call__(self, *arguments: str) -> Ending:
        """`fleet ARGUMENTS` without a terminal."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleet_client", *arguments),
            env={**os.environ, **self.address()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await child.communicate()
        assert b"Traceback (most" not in err
        return Ending(child.returncode or 0, out.decode(), err.decode())

    async def at_terminal(self, *arguments: str, typed: str = "", **environment: str) -> str:
        """What a person sees who types `typed`."""
        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleet_client", *arguments),
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", **self.address(), **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        seen = await asyncio.to_thread(read_all, ours)
        await child.wait()
        return seen

    def address(self) -> dict[str, str]:
        token = (self.coordinator.data / "tokens" / "operator").read_text().strip()
        return {"FLEET_URL": self.coordinator.url, "FLEET_TOKEN": token}

    def file(self, toml: str) -> str:
        path = self.folder / "lab.toml"
        path.write_text(toml)
        return str(path)


def read_all(descriptor: int) -> str:
    """Until every process has closed the other side of a terminal."""
    seen = b""
    with contextlib.suppress(OSError), os.fdopen(descriptor, "rb", buffering=0) as terminal:
        while block := terminal.read(65536):
            seen += block
    return seen.decode()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    migrate(f"sqlite:///{data / 'fleet.sqlite3'}")
    async with running(data, FakeClock()) as coordinator:
        yield Lab(coordinator, tmp_path)


async def test_a_plan_before_and_after(lab: Lab):
    two = manifest(job("steady"), job("tuned", hyper={"trees": 30}))
    file = lab.file(two)
    assert (await lab("plan", file, "--exit-code")).code == 10
    assert (await lab("plan", file)).code == 0
    done = await lab("reload", file)
    assert (done.code, done.out.splitlines()[-1]) == (0, f"{file} was applied: 2 jobs queued.")
    assert "2 new" in done.out
    again = await lab("plan", file, "--exit-code")
    assert (again.code, again.out.splitlines()[-1]) == (0, f"{file} changes nothing.")

    old = (await lab.coordinator.job("tuned"))["job_id"]
    file = lab.file(manifest(job("steady", priority=3), job("tuned", hyper={"trees": 40})))
    planned = await lab("plan", file, "--exit-code")
    assert planned.code == 10
    changed = planned.row("tuned")
    assert changed.startswith("~  changed")
    assert f"{old[:8]} -> " in changed
    assert changed.endswith(": hyper.trees")
    assert planned.row("steady").startswith("   pending")
    assert planned.row("steady").endswith("scheduling changes")
    assert planned.out.splitlines()[-1] == f"{file} would be applied: 1 job queued, 1 rescheduled."
    assert (await lab("reload", file)).code == 0
    removed = (await lab("plan", file)).row(old[:8])
    assert removed.startswith("-  removed")
    assert removed.endswith("pending stays until cancelled")


async def test_every_standing_has_its_own_mark_and_what_cannot_be_beats_what_would_change(lab: Lab):
    names = ("good", "bad", "busy", "dropped")
    wanted = [job(name, seed=n, priority=9 - n, max_attempts=1) for n, name in enumerate(names)]
    await lab.coordinator.load(manifest(*wanted))
    worker = await lab.coordinator.worker("box")
    await worker.finish(await worker.take())
    await worker.error(await worker.take())
    await worker.take()
    assert (await lab("cancel", "dropped")).code == 0
    file = lab.file(manifest(*wanted, job("big", seed=4, min_ram_gib=64, require_cuda=True)))
    ending = await lab("plan", file, "--exit-code")
    assert ending.code == 1
    assert {name: ending.row(f"  {name}").split()[:2] for name in (*names, "big")} == {
        "good": ["=", "trained"],
        "bad": ["!", "failed"],
        "busy": [">", "running"],
        "dropped": ["x", "cancelled"],
        "big": ["+", "new,"],
    }
    assert "new, unsatisfiable" in ending.row("  big")
    assert ending.row("  big").endswith("needs a CUDA GPU, has none, needs 64 GiB RAM, has 32")
    assert "1 trained, 1 failed, 1 running, 1 cancelled, 1 new, 1 unsatisfiable" in ending.out


async def test_colour_says_nothing_that_words_and_marks_do_not(lab: Lab):
    file = lab.file(manifest(job("one")))
    colourful = await lab.at_terminal("plan", file)
    plain = await lab.at_terminal("plan", file, NO_COLOR="1")
    assert "\x1b[32m+\x1b[0m" in colourful
    assert "\x1b[3" not in plain
    assert "+  new  " in plain


async def test_a_question_is_answered_by_hand(lab: Lab):
    await lab.coordinator.load(manifest(job("one"), job("two", seed=1)))
    assert "nothing was changed" in await lab.at_terminal("cancel", "one", "two", typed="n\n")
    assert (await lab.coordinator.job("one"))["status"] == "pending"
    assert "cancelled" in await lab.at_terminal("cancel", "one", "two", typed="y\n")


async def test_a_wrong_manifest_is_no_plan(lab: Lab):
    ending = await lab("plan", lab.file(manifest(job(prioritty=3))), "--exit-code")
    assert (ending.code, ending.out) == (1, "")
    assert "did you mean" in ending.err


async def test_what_other_code_trained_is_trained_anew_on_demand(lab: Lab):
    file = lab.file(manifest(job("one"), job("two", seed=1), job("three", seed=2)))
    assert (await lab("reload", file)).code == 0
    worker = await lab.coordinator.worker("box", trainer="1")
    for _ in range(2):
        await worker.finish(await worker.take(), provenance={"trainer": "1"})
    assert "No job" in (await lab("requeue", "--other-code", file)).err
    worker.offers["trainer"] = "2"
    await worker.hello()
    planned = await lab("plan", file)
    assert planned.row("one").endswith("by other code")
    assert "2 trained by other code" in planned.out
    unsure = await lab("requeue", "--other-code", file)
    assert (unsure.code, unsure.out) == (2, "")
    assert [line.split()[1] for line in unsure.err.splitlines() if line.startswith("  ")][:2] == [
        "one",
        "two",
    ]
    sure = json.loads((await lab("requeue", "--other-code", file, "--yes", "--json")).out)
    assert [(one["name"], one["status"]) for one in sure["jobs"]] == [("one", "pending"), ("two", "pending")]


async def test_a_completed_job_is_trained_anew_only_by_saying_so(lab: Lab):
    await lab.coordinator.load(manifest(job("one")))
    worker = await lab.coordinator.worker()
    await worker.finish(await worker.take())
    refused = await lab("requeue", "one")
    assert refused.code == 1
    assert "fleet requeue --again" in refused.err
    assert (await lab("requeue", "--again", "one")).out.split()[1] == "pending"
    nothing = await lab("requeue")
    assert nothing.code == 2
    assert "--other-code" in nothing.err


async def test_a_late_result_is_accepted_by_an_operator(lab: Lab):
    await lab.coordinator.load(manifest(job("slow", priority=1), job("none", seed=1)))
    worker = await lab.coordinator.worker()
    held = await worker.take()
    assert (await lab("cancel", "slow")).code == 0
    await worker.say("release", held, reason="stopped")
    assert (await worker.finish(held, metrics={"accuracy": {"value": 0.5}})).status_code == 409

    asked = await lab("accept-result", "slow")
    assert (asked.code, asked.out) == (2, "")
    assert "slow  cancelled" in asked.err
    assert (await lab("accept-result", "slow", "--attempt", "first")).code == 2
    done = await lab("accept-result", "slow", "--attempt", held.attempt, "--yes", "--reason", "it is good")
    assert (done.code, done.err) == (0, "")
    assert done.out.split()[1] == "completed"
    assert (await lab.coordinator.job("slow"))["artifact"] == digest(b"weights")
    none = await lab("accept-result", "none", "-y")
    assert none.code == 1
    assert "No attempt" in none.err


async def test_an_address_with_a_path_and_an_empty_name_are_answered_with_advice(lab: Lab):
    elsewhere = await lab("list", "--url", f"{lab.coordinator.url}/fleet")
    assert elsewhere.code == 1
    assert "without a path" in elsewhere.err
    empty = await lab("show", "")
    assert (empty.code, empty.err.splitlines()[1]) == (1, "       Next: fleet list")
    assert "No job is named" in empty.err


async def test_the_client_itself(lab: Lab):
    await lab.coordinator.load(manifest(job("one")))
    worker = await lab.coordinator.worker()
    await worker.finish(await worker.take())
    token = (lab.coordinator.data / "tokens" / "operator").read_text().strip()
    async with FleetClient(lab.coordinator.url, token) as fleet:
        with pytest.raises(Conflict):
            await fleet.requeue("one")
        assert (await fleet.requeue("one", "a better seed", again=True)).status is JobStatus.PENDING
        assert (await fleet.accept_result("one", reason="the first was better")).artifact == digest(
            b"weights"
        )


async def test_explain_has_every_worker_every_reason_with_its_numbers_and_the_way_here(lab: Lab):
    await lab.coordinator.load(manifest(job("big", min_ram_gib=64, min_cores=16)))
    await lab.coordinator.worker("small", ram_gib=4, cores=2)
    await lab.coordinator.worker("large", ram_gib=60, cores=16)
    ending = await lab("explain", "big")
    assert ending.code == 0
    assert "Smallest change  min_ram_gib 64 -> 60 would let large take it." in ending.out
    lines = ending.out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("small "))
    assert lines[at].split("  ")[0] == "small"
    assert lines[at].endswith("64 GiB RAM  4 GiB RAM")
    assert "needs 16 cores, has 2" in lines[at + 1]
    assert lines[at].index("64 GiB RAM  ") == lines[at + 1].index("16 cores  ")  # one below the other
    assert "ago" in ending.row("queued")
    assert (await lab("cancel", "big", "--reason", "too dear")).code == 0
    assert "too dear" in (await lab("explain", "big")).row("cancelled  operator")


async def test_a_worker_that_could_take_it_says_so(lab: Lab):
    await lab.coordinator.load(manifest(job("easy")))
    await lab.coordinator.worker("box")
    assert "could take it now" in (await lab("explain", "easy")).row("box ")


async def test_a_worker_that_is_passed_over_says_what_for(lab: Lab):
    gpu = {"kind": "cuda", "name": "RTX", "vram_gib": 8}
    await lab.coordinator.load(manifest(job("warm", prefer_cuda=True)))
    await lab.coordinator.worker("box")
    await lab.coordinator.worker("gpu-desktop", gpus=[gpu])
    shown = (await lab("explain", "warm")).row("passed over")
    assert shown.startswith("box")
    assert "kept for CUDA on gpu-desktop until" in shown


async def test_what_failed_where_and_what_to_try(lab: Lab):
    assert "FAILED" not in (await lab("workers")).out
    await lab.coordinator.load(manifest(job("big", require_cuda=True, min_vram_gib=4, max_attempts=1)))
    gpu = {"kind": "cuda", "name": "RTX", "vram_gib": 8}
    worker = await lab.coordinator.worker("gpu-desktop", gpus=[gpu])
    assert "FAILED" not in (await lab("workers")).out
    await worker.error(await worker.take(), "torch.OutOfMemoryError: CUDA out of memory")
    ending = await lab("workers")
    cells = [cell.strip() for cell in ending.row("1 x").split("  ") if cell.strip()]
    assert cells == [
        "big", "gpu-desktop", "1 x", "torch.OutOfMemoryError: CUDA out of memory", "min_vram_gib = 9",
    ]  # fmt: skip


async def test_a_worker_is_drained_and_resumed(lab: Lab):
    await lab.coordinator.load(manifest(job("one"), job("two", seed=1)))
    worker = await lab.coordinator.worker("box", max_jobs=2)
    await worker.take()
    drained = await lab("drain", "box", "--reason", "new disk")
    assert (drained.code, drained.out) == (0, "box  draining, 1 job to go\n")
    assert "draining" in (await lab("workers")).row("box")
    assert await worker.claim() is None
    resumed = await lab("resume", worker.id[:8], "--json")
    assert json.loads(resumed.out)["draining"] is False
    assert await worker.claim() is not None
    unknown = await lab("drain", "nobody")
    assert (unknown.code, unknown.out) == (1, "")
    assert "No worker is called 'nobody'." in unknown.err
    assert "fleet workers" in unknown.err
    assert (await lab("drain")).code == 2
