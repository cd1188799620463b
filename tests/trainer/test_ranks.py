"""Several ranks on one machine: how many, and that they end as one."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fleet_trainer.ranks import wanted


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({}, 1),
        ({"FLEET_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "0,1"}, 1),
        ({"FLEET_DEVICE": "cuda"}, 1),
        ({"FLEET_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "3"}, 1),
        ({"FLEET_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "0,3"}, 2),
        ({"FLEET_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "0,3", "WORLD_SIZE": "2"}, 1),
    ],
)
def test_each_gpu_that_the_agent_chose_gets_a_rank(environ, count):
    assert wanted(environ) == count


LAUNCH = """
import sys
from fleet_trainer.ranks import run_ranks
sys.exit(run_ranks([sys.executable, "-c", sys.argv[1]], 2))
"""
BEGIN = "import os, signal, sys; rank = os.environ['RANK']; "
STOPS = (
    "asked = [signal.SIGTERM]; signal.pthread_sigmask(signal.SIG_BLOCK, asked); "
    "os.write(1, b'ready\\n'); signal.sigwait(asked); sys.exit(75)"
)


def launch(program: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCH, program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("pass", 0),
        ("sys.exit(2)", 2),
        ("sys.exit(3) if rank == '1' else signal.pause()", 3),
        ("sys.exit(75) if rank == '1' else None", 75),
        ("os.kill(os.getpid(), signal.SIGKILL) if rank == '0' else signal.pause()", 137),
    ],
)
def test_ranks_end_with_what_the_first_to_fail_ended_with(program, code):
    process = launch(BEGIN + program)
    process.communicate(timeout=60)
    assert process.returncode == code


def test_a_stop_reaches_every_rank_and_its_exit_code_the_agent():
    process = launch(BEGIN + STOPS)
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signal.SIGTERM)  # to the launcher alone; the agent signals the whole group
    process.communicate(timeout=60)
    assert process.returncode == 75
