"""Programs, sources, data sets and checkpoints on their way to a trainer, and checkpoints on their way back."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports.zstd import ZstdFile

from fleet_agent.bundle import make_bundle
from fleet_protocol.archive import write_archive
from fleet_protocol.ids import AttemptId, Sha256
from fleet_protocol.jobs import Dataset, JobSpec, Program
from fleet_protocol.states import FailureKind, ReleaseReason, Verdict
from fleet_protocol.workers import (
    CheckpointRequest,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    ReleaseRequest,
)
from tests.agent.conftest import Bench, until
from tests.agent.coordinator import Coordinator, job_spec
from tests.agent.disks import mounted

Script = Callable[[str], str]
TRAIN = """
import os, pathlib, sys
data = pathlib.Path(os.environ["FLEET_DATA"])
print(sys.argv[1:], sorted(p.name for p in data.iterdir()), flush=True)
pathlib.Path("runs").mkdir()
pathlib.Path("runs/model.pt").write_text((data / "x.csv").read_text() * 2)
"""
COUNTS = """
import json, os, pathlib, signal, sys, time
place = pathlib.Path(os.environ["FLEET_CHECKPOINT_DIR"]) / "step"
step = int(place.read_text()) if place.exists() else 0
def stop(*_):
    place.write_text(str(step))
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print("from", step, flush=True)
step += 1
if step > 1: sys.exit(0)
while True: time.sleep(0.01)
"""


def of(
    command: tuple[str, ...], source: Sha256 | None = None, outputs: tuple[str, ...] = (), **more: Any
) -> JobSpec:
    """A job of the manifest's own program."""
    program = Program(command=command, source=source, outputs=outputs)
    return job_spec("mine", program=program, **more)


def packed(folder: Path, **files: str) -> bytes:
    """The archive of a folder of these files; `train` becomes train.py."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    archive = io.BytesIO()
    write_archive(folder, archive)
    return archive.getvalue()


async def failure(coordinator: Coordinator) -> FailRequest:
    [failed] = await coordinator.told("fail")
    assert isinstance(failed, FailRequest)
    return failed


async def has_printed(coordinator: Coordinator, attempt: AttemptId, text: bytes) -> None:
    await coordinator.until(lambda: text in coordinator.logs[attempt])


def phases(coordinator: Coordinator) -> set[str]:
    beats = [body for body in coordinator.of("heartbeat") if isinstance(body, HeartbeatRequest)]
    return {beat.progress.phase for beat in beats if beat.progress and beat.progress.phase}


async def test_a_program_of_the_manifest_runs_in_its_source_on_its_data(
    bench: Bench, coordinator: Coordinator, tmp_path: Path
) -> None:
    source = coordinator.hold(packed(tmp_path / "source", train_py=TRAIN))
    data = Dataset(name="sensors", sha256=coordinator.hold(packed(tmp_path / "data", x_csv="1,2\n")))
    command = ("python", "train.py", "--lr", "{hyper.lr}", "{data}")
    spec = of(command, source, dataset=data, hyper={"lr": 0.1}, outputs=("runs/*.pt",))
    attempt = coordinator.offer(spec)
    async with bench.agent():
        [done] = await coordinator.told("complete")
        await has_printed(coordinator, attempt, b"\n")
        await coordinator.until(
            lambda: any(
                isinstance(body, ClaimRequest) and {*body.holds} == {source, data.sha256}
                for body in coordinator.of("claim")
            )
        )
    shared = bench.settings.state / "datasets" / data.sha256
    assert coordinator.logs[attempt].decode() == f"['--lr', '0.1', '{shared}'] ['x.csv']\n"
    assert isinstance(done, CompleteRequest)
    with (
        ZstdFile(io.BytesIO(coordinator.artifacts[done.artifact])) as file,
        tarfile.open(fileobj=file) as tar,
    ):
        assert tar.getnames() == ["runs/model.pt"]


async def test_no_declared_output_makes_an_empty_bundle(bench: Bench, coordinator: Coordinator) -> None:
    coordinator.offer(of(("true",)))
    async with bench.agent():
        await coordinator.told("complete")


async def test_an_output_that_was_not_written_fails_the_job(bench: Bench, coordinator: Coordinator) -> None:
    coordinator.offer(of(("true",), outputs=("model.pt",)))
    async with bench.agent():
        failed = await failure(coordinator)
    assert (failed.kind, failed.exit_code) == (FailureKind.ERROR, 0)
    assert failed.reason == "it declared the output `model.pt`, but wrote nothing of that name"


@pytest.mark.parametrize(
    ("command", "more", "kind", "words"),
    [
        (("no-such-tool",), {}, FailureKind.DATA, "there is no program `no-such-tool`"),
        (("./train.sh",), {}, FailureKind.DATA, "nor in the job's source"),
        (
            ("echo", "{hyper.rate}"),
            {"hyper": {"lr": 1}},
            FailureKind.REFUSED,
            "names {hyper.rate}; this job has",
        ),
        (("true",), {"outputs": ("../x",)}, FailureKind.REFUSED, "leads out of the working directory"),
        (("echo", "{data}"), {}, FailureKind.DATA, "no dataset"),
    ],
)
async def test_what_cannot_be_run_says_why(
    bench: Bench,
    coordinator: Coordinator,
    command: tuple[str, ...],
    more: dict[str, Any],
    kind: FailureKind,
    words: str,
) -> None:
    coordinator.offer(of(command, **more))
    async with bench.agent():
        failed = await failure(coordinator)
    assert failed.kind is kind
    assert words in failed.reason
    assert not coordinator.of("start")


async def test_the_host_has_the_last_word(bench: Bench, coordinator: Coordinator) -> None:
    bench.set(allow_commands=False)
    coordinator.offer(of(("true",)))
    async with bench.agent():
        failed = await failure(coordinator)
    assert failed.kind is FailureKind.DATA
    assert "--allow-commands" in failed.reason


async def test_a_hostile_source_runs_nothing_and_leaves_nothing(
    bench: Bench, coordinator: Coordinator
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../../../escaped"))
    coordinator.offer(of(("true",), coordinator.hold(archive.getvalue())))
    async with bench.agent():
        failed = await failure(coordinator)
        await until(lambda: not bench.attempts())
    assert failed.kind is FailureKind.DATA
    assert "source cannot be unpacked" in failed.reason
    assert not coordinator.of("start")
    assert {path.name for path in bench.settings.state.parent.iterdir()} == {"state"}


async def test_a_data_set_that_stays_damaged_lets_another_host_try(
    bench: Bench, coordinator: Coordinator, tmp_path: Path
) -> None:
    sha = coordinator.hold(packed(tmp_path / "data", x="1"))
    coordinator.blobs[sha] = b"other bytes"
    coordinator.offer(of(("true",), dataset=Dataset(name="sensors", sha256=sha)))
    async with bench.agent():
        failed = await failure(coordinator)
    assert failed.kind is FailureKind.DATA
    assert failed.reason == "data set sensors cannot be had here: its bytes arrived damaged 2 times"
    assert coordinator.blob_ranges == [None, None]


@pytest.mark.parametrize("megabytes", [9, 30])
async def test_a_full_disk_is_the_machines_loss_and_gets_its_room_back(
    bench: Bench, coordinator: Coordinator, tmp_path: Path, megabytes: int
) -> None:
    """More than there is room for at all, and more than there is for the archive and its files at once."""
    sha = coordinator.hold(packed(tmp_path / "data", x="1" * megabytes * 1_000_000))
    coordinator.offer(of(("true",), dataset=Dataset(name="sensors", sha256=sha)))
    with mounted(tmp_path / "disk", "tmpfs", "-o", "size=16m") as disk:
        bench.set(state=disk / "state")
        async with bench.agent():
            failed = await failure(coordinator)
        assert failed.kind is FailureKind.INFRASTRUCTURE
        assert "the trainer cannot be started" in failed.reason
        assert shutil.disk_usage(disk).free > 10_000_000


async def test_a_pull_is_told_by_heartbeats_and_ends_with_a_stop(
    bench: Bench, coordinator: Coordinator, tmp_path: Path
) -> None:
    """Gigabytes take longer than a claim may wait for its start: heartbeats are what keeps it."""
    coordinator.blob_gate.clear()
    sha = coordinator.hold(packed(tmp_path / "data", x="1" * 2_000_000))
    attempt = coordinator.offer(of(("true",), dataset=Dataset(name="sensors", sha256=sha)))
    async with bench.agent():
        await coordinator.until(
            lambda: any(phase.startswith("pulling data set sensors 3") for phase in phases(coordinator))
        )
        coordinator.verdicts[attempt] = HeartbeatAnswer(verdict=Verdict.STOP, why="cancelled")
        [released] = await coordinator.told("release")
        coordinator.blob_gate.set()
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.NOT_STARTED
    assert not coordinator.of("start")


async def test_a_drained_job_goes_on_from_its_checkpoint(
    bench: Bench, coordinator: Coordinator, tmp_path: Path
) -> None:
    source = coordinator.hold(packed(tmp_path / "source", count_py=COUNTS))
    spec = of(("python", "count.py"), source)
    attempt = coordinator.offer(spec)
    async with bench.agent():
        await has_printed(coordinator, attempt, b"from 0")
    told = [kind for kind, _ in coordinator.calls if kind in ("checkpoint", "release")]
    assert told == ["checkpoint", "release"]
    [brought] = coordinator.of("checkpoint")
    assert isinstance(brought, CheckpointRequest)
    again = coordinator.offer(spec, 2, checkpoint=brought.sha256)
    async with bench.agent():
        await coordinator.told("complete")
        await has_printed(coordinator, again, b"from 1")
    assert len(coordinator.of("checkpoint")) == 1


async def test_new_checkpoints_are_brought_while_training(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    bench.set(
        checkpoint_every=0.05,
        data=tmp_path,
        python=trainer("""
place, data = pathlib.Path(os.environ["FLEET_CHECKPOINT_DIR"]), pathlib.Path(os.environ["FLEET_DATA"])
events = open(os.environ["FLEET_EVENTS"], "a", buffering=1)
(place / "a").write_text("one")
while not (data / "two").exists(): time.sleep(0.01)
while not (data / "go").exists():  # never quiet, but it says when a checkpoint is whole
    (place / "tmp").write_text(str(time.time()))
    os.replace(place / "tmp", place / "a")
    print('{"type": "checkpoint", "step": 1}', file=events)
    time.sleep(0.05)
"""),
    )
    coordinator.offer(job_spec())
    async with bench.agent():
        await coordinator.told("checkpoint")
        (tmp_path / "two").touch()
        await coordinator.told("checkpoint", 3)
        (tmp_path / "go").touch()
        await coordinator.told("complete")
    brought = [body.sha256 for body in coordinator.of("checkpoint") if isinstance(body, CheckpointRequest)]
    assert len({*brought}) == len(brought)


@pytest.mark.parametrize("damage", [b"no bundle", None])
async def test_a_checkpoint_that_cannot_be_had_costs_its_steps_and_not_the_job(
    bench: Bench, coordinator: Coordinator, tmp_path: Path, damage: bytes | None
) -> None:
    source = coordinator.hold(packed(tmp_path / "source", count_py=COUNTS))
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "step").write_text("1")
    whole = make_bundle(tmp_path / "checkpoint", tmp_path / "bundle").path.read_bytes()
    lost = coordinator.hold(damage or whole)
    if damage is None:
        coordinator.blobs.pop(lost)
    attempt = coordinator.offer(of(("python", "count.py"), source), 2, checkpoint=lost)
    async with bench.agent():
        await has_printed(coordinator, attempt, b"from 0")
