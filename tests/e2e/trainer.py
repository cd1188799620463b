"""A trainer that trains nothing: it prints until a test lets it go, and keeps its own copy of every byte it printed.

`python trainer.py FOLDER`; in FOLDER, `JOB.go` ends it well, `JOB.fail` with an error, and it leaves
`JOB-ATTEMPT.printed` and `JOB-ATTEMPT.pid`. It imports little, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

CHECKPOINTED = 75
PAUSE_SECONDS = 0.02

folder = Path(sys.argv[1])
job = json.loads(Path(os.environ["FLEET_JOB_SPEC"]).read_text())["name"]
this = f"{job}-{os.environ['FLEET_ATTEMPT']}"


def say(text: str, descriptor: int = 1) -> None:
    """The copy comes first: whenever this process is killed, what it printed is a beginning of its copy."""
    data = text.encode()
    os.write(copy, data)
    os.write(descriptor, data)


def on_sigterm(_number: int, _frame: FrameType | None) -> None:
    say("asked to stop\n")
    sys.exit(CHECKPOINTED)


def train() -> None:
    step = 0
    while not (folder / f"{job}.go").exists():
        if (folder / f"{job}.fail").exists():
            raise ValueError("the sensor table has no column named wrist")
        step += 1
        say(f"step {step} — of {this}\n", 1 + step % 2)
        time.sleep(PAUSE_SECONDS)
    output = Path(os.environ["FLEET_OUTPUT_DIR"])
    (output / "weights.txt").write_text(f"weights of {job}\n")
    accuracy = {"value": 0.5, "low": 0.4, "high": 0.6, "unit": "host"}
    (output / "metrics.json").write_text(json.dumps({"metrics": {"accuracy": accuracy}}))
    say(f"done after {step} steps")  # no newline at the end: the last bytes count too


copy = os.open(folder / f"{this}.printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
signal.signal(signal.SIGTERM, on_sigterm)
(folder / f"{this}.pid").write_text(str(os.getpid()))
try:
    train()
except ValueError:
    say(traceback.format_exc(), 2)
    sys.exit(1)
