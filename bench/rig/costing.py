"""A program and what it cost: `python costing.py FOLDER COMMAND…` adds a line to FOLDER/JOB.jsonl when it has ended.

Stands between an agent and its trainers, and so is seen by neither: CPU time and memory are the kernel's own account
of the finished process (wait4). The standard library only. An attempt that was stopped has a line of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, NamedTuple


class Cost(NamedTuple):
    cpu_seconds: float
    peak_rss_mib: float


def run(
    command: list[str],
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    stdout: IO[bytes] | None = None,
) -> tuple[int, Cost]:
    """The exit code and the cost of a command."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main(folder: Path, command: list[str]) -> int:
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # the whole group hears it, and this waits for the trainer's end
    code, cost = run(command)
    job = json.loads(Path(os.environ["FLEET_JOB_SPEC"]).read_text())["job_id"]
    with (folder / f"{job}.jsonl").open("a") as file:
        file.write(json.dumps({"code": code, **cost._asdict()}) + "\n")
    return code if code >= 0 else 128 - code


def costs(file: Path) -> Cost:
    """Of all attempts together."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return Cost(sum(one["cpu_seconds"] for one in lines), max(one["peak_rss_mib"] for one in lines))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
