"""The demo's parts: when it is over, what it tells, which folder it may empty, and that no program outlives it."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import textwrap
from pathlib import Path

import pytest

from fleet_client.client import FleetClient
from fleet_client.demo import programs
from fleet_client.demo.folder import MARKER, DemoFailed, claimed
from fleet_client.demo.programs import address, command, environment, kept, start
from fleet_client.demo.show import dashboard_at, first
from fleet_client.demo.story import Story, newest_line
from fleet_client.demo.verdict import MEANT, is_settled, surprises, told
from fleet_client.errors import FleetError
from fleet_protocol.jobs import Explanation, JobView, Refusal, WorkerFit
from fleet_protocol.local import LocalServer, note_file, write_note
from fleet_protocol.states import JobStatus
from fleet_server.activity import hold_folder
from tests.client.fake import (
    TOKEN,
    Coordinator,
    a_job,
    a_snapshot,
    a_worker,
    an_event,
    an_events_frame,
    completed,
)

FAILING, WAITING = MEANT


def why(
    job: JobView, *codes_by_worker: tuple[str, ...], status: JobStatus = JobStatus.PENDING
) -> dict[str, Explanation]:
    fits = tuple(
        WorkerFit(
            worker=f"w{n}", refusals=tuple(Refusal(code=c, required="", offered="", message=c) for c in codes)
        )
        for n, codes in enumerate(codes_by_worker)
    )
    return {job.job_id: Explanation(job_id=job.job_id, status=status, summary="", workers=fits)}


def test_it_is_settled_when_nothing_waits():
    assert is_settled([completed(1), a_job(2, JobStatus.FAILED), a_job(3, JobStatus.CANCELLED)], {})


@pytest.mark.parametrize("status", [JobStatus.CLAIMED, JobStatus.RUNNING])
def test_it_is_not_settled_while_something_runs(status: JobStatus):
    assert not is_settled([a_job(1, status)], {})


def test_it_is_settled_when_no_worker_can_ever_take_what_waits():
    job = a_job(1)
    assert is_settled([job], why(job, ("no_cuda",), ("host_policy", "busy")))


def test_it_is_not_settled_while_a_worker_could_take_a_job_sooner_or_later():
    job = a_job(1)
    assert not is_settled([job], why(job, ("no_cuda",), ()))
    assert not is_settled([job], why(job, ("no_cuda",), ("busy",)))
    assert not is_settled([job], why(job)), "no worker has said hello yet"
    assert not is_settled([job], {})
    assert not is_settled([job], why(job, ("no_cuda",), status=JobStatus.CLAIMED)), "claimed a moment later"


def test_what_is_meant_to_happen_is_no_surprise():
    assert not surprises(
        [completed(1), a_job(2, JobStatus.FAILED, name=FAILING), a_job(3, JobStatus.PENDING, name=WAITING)]
    )


def test_everything_else_is_a_surprise():
    assert (
        len(surprises([a_job(1, JobStatus.FAILED), completed(2, name=FAILING), completed(3, name=WAITING)]))
        == 3
    )


def test_events_are_told_in_a_line():
    done = an_event(1, "completed", completed(1))
    failed = an_event(2, "failed", a_job(2, JobStatus.FAILED, reason="no such host", worker="pi-garage"))
    assert told(done) == ("job 1", "completed on pi-garage: accuracy 0.861 [0.806, 0.904] host")
    assert told(failed) == ("job 2", "failed on pi-garage: no such host")
    assert told(an_event(3, "started", a_job(3, JobStatus.RUNNING))) == ("job 3", "started on pi-garage")
    assert told(an_event(4, "queued", a_job(4))) is None
    assert told(an_event(5, "lease_lost", a_job(5, reason="unheard"))) == ("job 5", "lease lost (unheard)")


def test_the_newest_line_is_what_a_terminal_would_show():
    assert newest_line(b"epoch 1\nstep 1\rstep 2\r\n\n") == "step 2"
    assert newest_line(b"\n \n") == ""


async def test_the_story_ends_once_nothing_more_can_happen(coordinator: Coordinator):
    job = a_job(1, JobStatus.RUNNING, worker="pi-garage")
    hello = an_event(2, "worker_hello", job).model_copy(update={"job": None, "worker": a_worker()})
    over = an_event(3, "completed", completed(1))
    coordinator.jobs = [completed(1), a_job(2)]
    coordinator.frames = [a_snapshot(job), an_events_frame(hello, over)]
    lines: list[str] = []
    async with FleetClient(coordinator.url, TOKEN) as fleet, asyncio.TaskGroup() as tasks:
        story = Story(fleet, lines.append)
        events = tasks.create_task(story.follow())
        (waiting,) = await story.settled({"pi-garage"}, lambda: None)
        events.cancel()
    assert waiting.job_id == coordinator.jobs[1].job_id
    assert [line.split()[:3] for line in lines[:2]] == [["pi-garage", "hello"], ["job", "1", "completed"]]


def test_a_folder_that_the_demo_did_not_make_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    for fresh in (False, True):
        with pytest.raises(DemoFailed, match="left alone"), claimed(tmp_path, fresh=fresh):
            pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_fresh_empties_the_demos_folder_and_nothing_behind_a_link(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    root = tmp_path / "demo"
    with claimed(root, fresh=False) as folder:
        folder.log("coordinator").write_text("old")
        (root / "link").symlink_to(outside)
    with claimed(root, fresh=False) as folder:
        assert folder.log("coordinator").exists()
    with claimed(root, fresh=True) as folder:
        assert not folder.log("coordinator").exists()
    assert sorted(entry.name for entry in root.iterdir()) == [".gitignore", MARKER, "logs"]
    assert (outside / "precious").exists()


def test_two_demos_do_not_share_a_folder(tmp_path: Path):
    with (
        claimed(tmp_path, fresh=False),
        pytest.raises(DemoFailed, match="Another demo"),
        claimed(tmp_path, fresh=True),
    ):
        pass


def test_fresh_leaves_what_a_coordinator_still_uses_and_names_its_process(tmp_path: Path):
    with claimed(tmp_path, fresh=False) as folder:
        folder.coordinator.mkdir()
        precious = folder.coordinator / "fleet.sqlite3"
        precious.touch()
    with hold_folder(folder.coordinator):
        refusal = pytest.raises(DemoFailed, match=f"process {os.getpid()}")
        with refusal as failure, claimed(tmp_path, fresh=True):
            pass
        assert precious.exists()
        assert failure.value.next == f"end it with `kill {os.getpid()}`"
        with claimed(tmp_path, fresh=False):
            pass
    with claimed(tmp_path, fresh=True):
        assert not precious.exists()


def test_the_account_keeps_no_note_of_a_demo_that_is_over(tmp_path: Path):
    other = write_note(LocalServer(8490, tmp_path / "mine"))
    broken = note_file(1)
    broken.write_text("[]")
    with claimed(tmp_path / "demo", fresh=False) as folder:
        note = write_note(LocalServer(40_000, folder.coordinator))
    assert (note.exists(), other.exists(), broken.exists()) == (False, True, True)


def test_another_fleets_settings_do_not_reach_the_demos_programs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEET_URL", "https://lab.example")
    assert {name for name in environment() if name.startswith("FLEET_")} == {"FLEET_STATE_DIR"}


def a_module(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return name


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


async def test_programs_are_ended_last_started_first(modules: Path):
    text = """
        import pathlib, signal, sys, time
        def end(*_):
            with pathlib.Path(sys.argv[1]).open("a") as order: order.write(sys.argv[2] + " ")
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("listening on http://127.0.0.1:1", flush=True)
        time.sleep(60)
    """
    name, order = a_module(modules, "polite", text), str(modules / "order")
    started = [start(each, [name, order, each], modules / each) for each in ("server", "agent")]

    async def show() -> None:
        async with kept(started):
            for program in started:
                assert await address(program) == "http://127.0.0.1:1"
            raise RuntimeError("went wrong")

    with pytest.raises(RuntimeError, match="went wrong"):
        await show()
    assert (modules / "order").read_text() == "agent server "
    assert not [program for program in started if program.is_running]


async def test_a_program_that_will_not_end_is_killed(modules: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(programs, "DRAIN_SECONDS", 0.01)
    monkeypatch.setattr(programs, "NOW_SECONDS", 0.01)
    text = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("listening on http://127.0.0.1:1", flush=True)
        time.sleep(60)
    """
    stubborn = start("stubborn", [a_module(modules, "stubborn", text)], modules / "log")
    async with kept([stubborn]):
        await address(stubborn)
    assert stubborn.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("over", [False, True])
async def test_who_quits_the_dashboard_is_told_that_training_goes_on_while_it_does(
    modules: Path, over: bool, coordinator: Coordinator
):
    a_module(modules, "fleet_tui", "")
    lines: list[str] = []
    async with FleetClient(coordinator.url, TOKEN) as fleet:
        story = Story(fleet, lines.append, muted=True, over=over)
        await dashboard_at(coordinator.url, story)
    assert not story.muted
    assert ["Ctrl-C ends it" in line for line in lines] == [True] * (not over)


def test_hints_name_commands_that_work_without_an_activated_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(shlex.split(command("fleet"))[0]).exists()
    (tmp_path / "fleet").touch(mode=0o700)
    assert command("fleet") == "fleet"


async def test_a_coordinator_that_does_not_start_is_quoted(modules: Path):
    name = a_module(modules, "broken", "raise SystemExit('fleet-server: the port is in use')")
    program = start("coordinator", [name], modules / "log")
    with pytest.raises(DemoFailed, match="the port is in use") as failure:
        await address(program)
    assert str(modules / "log") in str(failure.value.next)


def test_the_first_of_many_errors_is_told():
    deep = DemoFailed("deep")
    nested: BaseExceptionGroup[FleetError] = ExceptionGroup("", [deep])
    assert first(nested) is deep
