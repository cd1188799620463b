"""A job that cannot read the secret of the agent whose account it shares."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_agent import confine
from fleet_agent.process import confinement, start

needs_landlock = pytest.mark.skipif(
    not confine.is_supported(), reason="this kernel has no Landlock of version 3"
)

JOB = """
import os, pathlib, sys
state = pathlib.Path(sys.argv[1])
def tries(what):
    try:
        what()
        return "yes"
    except OSError as error:
        return type(error).__name__
print("read", tries(lambda: (state / "credential").read_text()))
print("write", tries(lambda: (state / "credential").write_text("mine")))
print("move", tries(lambda: (state / "credential").rename(state / "attempts" / "c")))
print("link", tries(lambda: (state / "attempts" / "d").hardlink_to(state / "credential")))
(state / "attempts" / "way").symlink_to(state / "credential")
print("symlink", tries(lambda: (state / "attempts" / "way").read_text()))
print("memory", tries(lambda: open(f"/proc/{sys.argv[2]}/mem", "rb").close()))
print("own", tries(lambda: (state / "attempts" / "log").write_text("fine")))
print("turn", tries(lambda: (state / "attempts" / "log").rename(state / "blobs" / "log")))
print("system", tries(lambda: pathlib.Path("/etc/hostname").read_text()))
print("null", tries(lambda: pathlib.Path("/dev/null").write_text("x")))
"""


@needs_landlock
def test_a_job_cannot_read_the_agents_secret_by_any_way(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in confine.JOBS_OWN:
        (state / name).mkdir(parents=True)
    (state / "credential").write_text("fa1_secret")
    job = [sys.executable, "-c", JOB, str(state), str(os.getpid())]
    done = subprocess.run(
        [sys.executable, "-I", "-S", confine.__file__, str(state), *job],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = dict(line.split() for line in done.stdout.splitlines())
    assert told == {
        "read": "PermissionError",
        "write": "PermissionError",
        "move": "OSError",  # EXDEV, as Landlock has it
        "link": "OSError",
        "symlink": "PermissionError",
        "memory": "PermissionError",
        "own": "yes",
        "turn": "yes",
        "system": "yes",
        "null": "yes",
    }
    assert (state / "credential").read_text() == "fa1_secret"


@needs_landlock
async def test_an_account_of_the_agents_own_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert confinement(tmp_path) == []
    (tmp_path / "credential").touch()
    assert confinement(tmp_path) == []
    monkeypatch.setattr("fleet_agent.process.ACCOUNT", pwd.getpwuid(os.geteuid()).pw_name)
    assert confinement(tmp_path)[-2:] == [confine.__file__, str(tmp_path)]
    (tmp_path / "attempts" / "one").mkdir(parents=True)
    trainer = start(tmp_path / "attempts" / "one", ["/bin/sh", "-c", "cat ../../../credential || exit 7"], {})
    await trainer.ended()
    assert trainer.exit_status == 7
