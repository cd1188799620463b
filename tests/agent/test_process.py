"""Real processes: how they end, what is recorded, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from fleet_agent import locks, process
from fleet_agent.environment import account_environment
from tests.agent.conftest import is_running, until

PYTHON = [sys.executable, "-S", "-c"]


def start(folder: Path, script: str) -> process.Trainer:
    return process.start(
        folder, [*PYTHON, "import os, signal, subprocess, sys, time\n" + script], account_environment()
    )


async def run(folder: Path, script: str) -> int | None:
    trainer = start(folder, script)
    await trainer.ended()
    assert not trainer.is_alive
    return trainer.exit_status


@pytest.mark.parametrize("status", [0, 1, 2, 75, 255])
async def test_an_exit_status_is_recorded(tmp_path: Path, status: int) -> None:
    assert await run(tmp_path, f"sys.exit({status})") == status


async def test_death_by_signal_is_recorded_as_a_shell_counts(tmp_path: Path) -> None:
    assert await run(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)") == 128 + signal.SIGSEGV


async def test_output_and_errors_share_one_file_in_true_order(tmp_path: Path) -> None:
    await run(tmp_path, "for n in range(3): os.write(1, b'out '); os.write(2, b'err ')")
    assert (tmp_path / "log").read_bytes() == b"out err " * 3


async def test_the_log_is_the_trainers_alone(tmp_path: Path) -> None:
    """A shell may say that its child was killed."""
    await run(tmp_path, "os.write(2, b'words'); os.kill(os.getpid(), signal.SIGKILL)")
    assert (tmp_path / "log").read_bytes() == b"words"


async def test_it_runs_in_an_empty_folder_and_a_session_of_its_own(tmp_path: Path) -> None:
    await run(tmp_path, "print(os.getcwd(), os.listdir('.'), os.getsid(0) == int(open('../pid').read()))")
    assert (tmp_path / "log").read_text() == f"{tmp_path}/work [] True\n"


async def test_sigterm_reaches_the_trainer_and_its_answer_is_recorded(tmp_path: Path) -> None:
    trainer = start(
        tmp_path, "signal.signal(15, lambda *_: sys.exit(75))\nprint('up', flush=True)\ntime.sleep(1000)"
    )
    await until(lambda: (tmp_path / "log").read_bytes())
    stopping = asyncio.ensure_future(trainer.stop(1000.0, asyncio.Event()))
    await trainer.ended()
    stopping.cancel()
    assert trainer.exit_status == 75


async def test_without_grace_the_whole_group_is_killed(tmp_path: Path) -> None:
    trainer = start(
        tmp_path,
        "signal.signal(15, signal.SIG_IGN)\n"
        "grandchild = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(1000)'])\n"
        "print(os.getpid(), grandchild.pid, flush=True)\ntime.sleep(1000)",
    )
    await until(lambda: (tmp_path / "log").read_bytes().endswith(b"\n"))
    await trainer.stop(0.0, asyncio.Event())
    await trainer.ended()
    pids = [int(pid) for pid in (tmp_path / "log").read_text().split()]
    await until(lambda: not any(map(is_running, pids)))
    assert trainer.exit_status is None


async def test_a_supervisor_that_is_killed_takes_the_trainer_with_it(tmp_path: Path) -> None:
    trainer = start(tmp_path, "print(os.getpid(), flush=True)\ntime.sleep(1000)")
    await until(lambda: (tmp_path / "log").read_bytes().endswith(b"\n"))
    assert trainer.group is not None
    os.kill(trainer.group, signal.SIGKILL)
    await trainer.ended()
    assert trainer.exit_status is None
    await until(lambda: not is_running(int((tmp_path / "log").read_text())))


async def test_an_empty_status_file_is_no_status(tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("")
    assert process.Trainer(tmp_path).exit_status is None


async def test_what_hides_in_a_session_of_its_own_is_found_by_its_environment(tmp_path: Path) -> None:
    """It has left the group, and Python closed the lock that it would have inherited."""
    hides = (
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "print(child.pid, os.getsid(child.pid) == child.pid, flush=True)"
    )
    environment = account_environment() | {"FLEET_JOB_SPEC": str(tmp_path / "job.json")}
    trainer = process.start(
        tmp_path, [*PYTHON, "import os, signal, subprocess, sys, time\n" + hides], environment
    )
    bystander = await asyncio.create_subprocess_exec(
        "sleep", "1000", env=environment | {"FLEET_JOB_SPEC": "x"}
    )
    await trainer.ended()
    child, is_apart = (tmp_path / "log").read_text().split()
    assert is_apart == "True"
    assert trainer.exit_status == 0
    await until(lambda: not is_running(int(child)))
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()


async def test_what_keeps_the_lock_in_a_session_of_its_own_is_found_too(tmp_path: Path) -> None:
    environment = account_environment() | {"FLEET_JOB_SPEC": str(tmp_path / "job.json")}
    trainer = process.start(tmp_path, ["sh", "-c", "setsid sleep 1000 & echo $!"], environment)
    await trainer.ended()
    assert not trainer.is_alive
    await until(lambda: not is_running(int((tmp_path / "log").read_text())))


async def test_when_memory_runs_out_the_trainer_goes_before_its_supervisor_and_its_agent(
    tmp_path: Path,
) -> None:
    def score(of: object) -> int:
        return int(Path(f"/proc/{of}/oom_score_adj").read_text())

    trainer = start(tmp_path, "print(open('/proc/self/oom_score_adj').read(), flush=True)\ntime.sleep(1000)")
    await until(lambda: (tmp_path / "log").read_bytes())
    assert score(trainer.group) == score("self") < int((tmp_path / "log").read_text())
    trainer.signal(signal.SIGKILL)
    await trainer.ended()


@pytest.fixture
def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


async def test_a_deadline_that_nobody_renews_ends_a_trainer_without_any_agent(
    tmp_path: Path, uptime: int
) -> None:
    (tmp_path / "deadline").write_text(f"{uptime} 1\n")
    (tmp_path / "unheard.json").write_text("why")
    trainer = start(
        tmp_path, "signal.signal(15, signal.SIG_IGN)\nprint(os.getpid(), flush=True)\ntime.sleep(1000)"
    )
    await until(lambda: (tmp_path / "log").read_bytes().endswith(b"\n"))
    trainer.signal(signal.SIGTERM)  # the last that its agent did
    await until(lambda: not trainer.is_alive)
    await trainer.ended()
    assert trainer.exit_status is None
    assert (tmp_path / "stop.json").read_text() == "why"
    assert not is_running(int((tmp_path / "log").read_text()))


async def test_an_order_that_stands_is_not_replaced_at_the_deadline(tmp_path: Path, uptime: int) -> None:
    (tmp_path / "deadline").write_text(f"{uptime} 1\n")
    (tmp_path / "unheard.json").write_text("why")
    (tmp_path / "stop.json").write_text("drained")
    trainer = start(tmp_path, "time.sleep(1000)")
    await until(lambda: not trainer.is_alive)
    await trainer.ended()
    assert (tmp_path / "stop.json").read_text() == "drained"


def children(process: object) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


async def test_a_deadline_that_is_renewed_ends_nothing_and_leaves_nothing(
    tmp_path: Path, uptime: int
) -> None:
    (tmp_path / "deadline").write_text(f"{uptime} 1\n")
    trainer = start(tmp_path, "print('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)")
    await until(lambda: (tmp_path / "log").read_bytes())
    guard = min(children(trainer.group), key=int)
    await until(lambda: children(guard))  # it sleeps, before it looks for the first time
    (tmp_path / "deadline.tmp").write_text(f"{uptime + 1000} 1\n")
    (tmp_path / "deadline.tmp").replace(tmp_path / "deadline")
    first = children(guard)
    await until(lambda: children(guard) not in ([], first))  # it looked, and sleeps again
    (tmp_path / "work" / "go").touch()
    await trainer.ended()
    assert trainer.exit_status == 0
    assert not trainer.is_alive
    assert (tmp_path / "log").read_text() == "up\n"


async def test_who_has_no_deadline_has_no_guard(tmp_path: Path) -> None:
    trainer = start(tmp_path, "print('up', flush=True)\ntime.sleep(1000)")
    await until(lambda: (tmp_path / "log").read_bytes())
    assert len(children(trainer.group)) == 1
    trainer.signal(signal.SIGKILL)
    await trainer.ended()


def test_what_never_began_says_so(tmp_path: Path) -> None:
    assert not process.Trainer(tmp_path).was_started


def test_a_program_that_is_not_there_ends_with_the_shells_status(tmp_path: Path) -> None:
    trainer = process.start(tmp_path, ["/no/such/program"], account_environment())
    asyncio.run(trainer.ended())
    assert trainer.exit_status == 127
    assert b"/no/such/program" in (tmp_path / "log").read_bytes()


def test_a_second_trainer_in_one_folder_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path, "time.sleep(1000)")
    with pytest.raises(OSError, match="running trainer"):
        start(tmp_path, "pass")
    first.signal(signal.SIGKILL)
    asyncio.run(first.ended())


async def test_a_trainer_is_found_again_after_its_parent_died(tmp_path: Path) -> None:
    parent = textwrap.dedent(f"""
        import os, pathlib, sys
        from fleet_agent import locks, process
        command = [sys.executable, "-S", "-c",
                   "import os, sys, time\\nprint(os.getppid(), flush=True)\\n"
                   "while not os.path.exists('go'): time.sleep(0.01)\\nsys.exit(9)"]
        process.start(pathlib.Path({str(tmp_path)!r}), command, dict(os.environ))
        os._exit(1)
    """)
    dead = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
    assert await dead.wait() == 1
    await until(lambda: (tmp_path / "log").read_bytes().endswith(b"\n"))
    found = process.Trainer(tmp_path)
    assert found.was_started
    assert found.is_alive
    assert found.exit_status is None
    (tmp_path / "work" / "go").touch()
    await found.ended()
    assert found.exit_status == 9


def test_the_agent_does_not_hold_a_trainers_lock(tmp_path: Path) -> None:
    trainer = start(tmp_path, "pass")
    asyncio.run(trainer.ended())
    assert not locks.is_held(tmp_path / "lock")
