"""A disk that fills and memory that runs out: one sentence and the contract's exit code, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.synthetic import TINY, environment, needs_torch, spec_json

pytestmark = [needs_torch, pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")]

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import fleet_trainer.cli, fleet_trainer.run, fleet_trainer.train
limit, room = sys.argv.pop(1), int(sys.argv.pop(1))
if limit == "RLIMIT_AS":
    room += int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(getattr(resource, limit), (room, room))
fleet_trainer.cli.main()
"""


@pytest.mark.parametrize(
    ("limit", "room", "model", "hyper", "told"),
    [
        ("RLIMIT_FSIZE", 2048, "mlp", {}, "out/model.safetensors: File too large"),
        ("RLIMIT_AS", 400 << 20, "mlp", {"width": 4096, "depth": 8}, "out of memory; lower hyper.batch_size"),
    ],
)
def test_what_runs_out_is_named(tmp_path: Path, data: Path, limit, room, model, hyper, told):
    if limit == "RLIMIT_AS" and sys.platform != "linux":
        pytest.skip("needs /proc")
    environ = environment(tmp_path, data)
    spec = spec_json(model, hyper=TINY[model] | hyper)
    Path(environ["FLEET_JOB_SPEC"]).write_text(json.dumps(spec))
    command = [sys.executable, "-c", LIMITED, limit, str(room), "run"]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
