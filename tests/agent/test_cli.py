"""The program as a person or a service starts it: exit codes, sentences, signals, and a real SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fleet_agent.cli import app
from fleet_agent.hardware import DATA_FILES
from fleet_protocol.errors import Code, Problem
from fleet_protocol.workers import CompleteRequest, HelloRequest, ReleaseRequest
from tests.agent.conftest import is_running, until
from tests.agent.coordinator import Coordinator, job_spec
from tests.agent.test_life import WAITS

AGENT = [sys.executable, "-m", "fleet_agent"]


@contextmanager
def program(
    arguments: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen([*AGENT, *arguments], env=environment, stderr=file, stdout=file)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def doctor(flags: list[str], environment: dict[str, str]) -> Result:
    """The command in this process, which has imported everything. It takes the flags that `run` takes."""
    done = CliRunner().invoke(app, ["doctor", *flags], env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


async def finished(process: subprocess.Popen[bytes]) -> int:
    await until(lambda: process.poll() is not None)
    return process.returncode


async def test_sigterm_drains_and_ends_with_zero(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path, trainer: Callable[[str], str]
) -> None:
    attempt = coordinator.offer(job_spec())
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli", "--python"]
    with program([*flags, trainer(WAITS)], environment, tmp_path / "log") as process:
        await coordinator.until(lambda: b"ready" in coordinator.logs[attempt])
        process.send_signal(signal.SIGTERM)
        assert await finished(process) == 0
    assert not is_running(int(coordinator.logs[attempt].split()[1]))
    assert isinstance(coordinator.of("release")[0], ReleaseRequest)
    assert b'"action": "draining"' in (tmp_path / "log").read_bytes()


async def test_after_sigkill_the_next_agent_goes_on_with_the_same_trainer(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path, trainer: Callable[[str], str]
) -> None:
    attempt = coordinator.offer(job_spec())
    script = WAITS.replace("os._exit(75)", "os._exit(0)")
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli", "--python"]
    with program([*flags, trainer(script)], environment, tmp_path / "log") as process:
        await coordinator.until(lambda: b"ready" in coordinator.logs[attempt])
        process.kill()
    pid = int(coordinator.logs[attempt].split()[1])
    assert is_running(pid)
    with program([*flags, trainer(script)], environment, tmp_path / "log"):
        hello = (await coordinator.told("hello", 2))[-1]
        assert isinstance(hello, HelloRequest)
        assert [local.running for local in hello.attempts] == [True]
        os.kill(pid, signal.SIGTERM)
        [done] = await coordinator.told("complete")
    assert isinstance(done, CompleteRequest)
    assert coordinator.logs[attempt].endswith(b"checkpoint\n")


async def test_two_agents_on_one_folder(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli"]
    with program(flags, environment, tmp_path / "log"):
        await coordinator.told("hello")
        with program(flags, environment, tmp_path / "second") as second:
            assert await finished(second) == 1
    assert "Another agent runs on" in (tmp_path / "second").read_text()


async def test_a_refusal_at_the_start_is_one_sentence_and_exit_one(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    refusal = Problem(title="no", status=426, detail="that will not do", code=Code.PROTOCOL_TOO_OLD)
    coordinator.problems["hello"] = [refusal]
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli"]
    with program(flags, environment, tmp_path / "log") as process:
        assert await finished(process) == 1
    said = (tmp_path / "log").read_text()
    assert f"fleet-agent: The coordinator at {coordinator.url} refuses this agent: that will not do" in said
    assert "Traceback" not in said


async def test_a_taken_name_is_waited_for(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    taken = Problem(title="no", status=409, detail="another worker is called cli", code=Code.NAME_TAKEN)
    coordinator.problems["hello"] = [taken]
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli"]
    with program(flags, environment, tmp_path / "log"):
        await coordinator.told("claim")
    assert "another worker is called cli" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--server", "nowhere"], "is not a coordinator's address"),
        (["--server", "http://"], "is not a coordinator's address"),
        (["--server", "http://127.0.0.1:many"], "is not an address"),
        (["--server", "http://127.0.0.1:99999"], "is not an address"),
        (["--server", "http://some-other-host:1"], "would send your token unprotected over the network"),
        (["--server", "http://localhost.example:1"], "would send your token unprotected over the network"),
        (["--ram-gib", "nan"], "--ram-gib must be a number above 0"),
        (["--ram-gib", "0"], "--ram-gib must be a number above 0"),
        (["--spool-gib", "0"], "--spool-gib must be a number above 0"),
        (["--grace", "nan"], "--grace must be a number above 0"),
        (["--grace", "inf"], "--grace must be a number above 0"),
        (["--grace", "-1"], "--grace must be a number above 0"),
        (["--gpus", "-1"], "device numbers"),
        (["--gpus", "first"], "device numbers"),
        (["--max-jobs", "0"], "--max-jobs must be at least 1"),
        (["--max-jobs", "2000"], "--max-jobs must be at least 1 and at most 1024"),
        (["--max-jobs", "many"], "`auto`"),
        (["--data", "/no/such/folder"], "is not a folder"),
        (["--name", "a\nb"], "printable"),
        (["--cores", "many"], "cores"),
    ],
)
def test_wrong_flags_are_usage_errors(environment: dict[str, str], flags: list[str], said: str) -> None:
    done = doctor(flags, environment)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_person_sees_a_usage_error_and_no_traceback(environment: dict[str, str]) -> None:
    command = [*AGENT, "run", "--grace", "nan"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--grace must be a number above 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("token", ["wröng", "two\nlines"])
def test_a_token_that_cannot_be_one_is_a_sentence(
    environment: dict[str, str], tmp_path: Path, token: str
) -> None:
    flags = ["--server", "http://127.0.0.1:9", "--state", str(tmp_path / "s")]
    done = doctor(flags, environment | {"FLEET_TOKEN": token})
    assert done.exit_code == 1, done.stderr
    assert "token" in done.stderr


def test_an_agent_with_such_a_token_does_not_start(environment: dict[str, str], tmp_path: Path) -> None:
    command = [*AGENT, "run", "--server", "http://127.0.0.1:9", "--state", str(tmp_path / "s")]
    environment |= {"FLEET_TOKEN": "wröng"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "token" in done.stderr
    assert "Traceback" not in done.stderr


async def test_doctor_shows_what_would_be_advertised(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    for name in DATA_FILES:
        (tmp_path / name).touch()
    flags = ["--server", coordinator.url, "--state", str(tmp_path / "s"), "--models", "gbt"]
    done = await asyncio.to_thread(doctor, flags, environment)
    assert done.exit_code == 0, done.stderr
    assert "- No --data folder is named" in done.stdout
    flags += ["--data", str(tmp_path)]
    nothing = [*flags, "--models", "none", "--no-allow-commands"]
    done = await asyncio.to_thread(doctor, nothing, environment)
    assert done.exit_code == 1
    assert "models    none" in done.stdout
    assert "fleet's own only (--allow-commands)" in done.stdout
    assert "this worker will get no job" in done.stdout
    done = await asyncio.to_thread(doctor, flags, environment)
    assert done.exit_code == 0, done.stderr
    assert "models    gbt" in done.stdout
    done = await asyncio.to_thread(doctor, flags, environment | {"FLEET_TOKEN": "wrong"})
    assert done.exit_code == 1
    assert "takes no such token" in done.stderr
    await coordinator.stop()
    done = await asyncio.to_thread(doctor, flags, environment)
    assert done.exit_code == 3
    assert "does not answer" in done.stderr


async def test_doctor_says_what_is_wrong_and_what_is_only_worth_knowing(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "s"
    (state / "kept" / "an attempt").mkdir(parents=True)
    flags = ["--server", coordinator.url, "--name", "cli", "--state", str(state), "--models", "gbt"]
    with program(["run", *flags], environment, tmp_path / "log"):
        await coordinator.told("hello")
        done = await asyncio.to_thread(doctor, flags, environment)
    assert (done.exit_code, "!" in done.stdout) == (0, False), done.stdout + done.stderr
    assert f"- An agent runs on {state} now." in done.stdout
    assert f"- 1 attempt(s) that no coordinator took are in {state}/kept" in done.stdout
    wrong = [*flags, "--models", "resnet,gbt", "--state", "/dev/null/s"]
    done = await asyncio.to_thread(doctor, wrong, environment)
    assert done.exit_code == 1
    assert "! --models permits resnet" in done.stdout
    assert "! The state folder /dev/null/s cannot be written; name another by --state." in done.stdout
    assert "Not all is well" in done.stderr


def test_flags_win_over_the_environment(environment: dict[str, str]) -> None:
    environment |= {"FLEET_URL": "http://127.0.0.1:9", "FLEET_AGENT_NAME": "from-environment"}
    command = [*AGENT, "doctor", "--name", "from-flag"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "from-flag" in done.stdout
    assert "127.0.0.1:9 " in done.stderr


def test_the_daemon_imports_nothing_heavy() -> None:
    code = "import fleet_agent.cli, sys; print({'torch', 'numpy', 'polars', 'pynvml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
