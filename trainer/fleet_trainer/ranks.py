"""A process for each GPU, told of the others as torchrun does it, but ending as its ranks end.

torchrun itself makes 1 of every exit code, and the end of its own traceback of every reason.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from fleet_trainer.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PEACEFUL = (None, 0, Stopped.exit_code)
LOOK_SECONDS = 0.1


def wanted(environ: Mapping[str, str]) -> int:
    """How many ranks the visible GPUs ask for; one on the CPU, and where torchrun has started this already."""
    if environ.get("FLEET_DEVICE") != "cuda" or "WORLD_SIZE" in environ:
        return 1
    return environ.get("CUDA_VISIBLE_DEVICES", "").count(",") + 1


def run_ranks(command: Sequence[str], count: int) -> int:
    """Run `command` as `count` ranks on this machine. The exit code of the first that failed, else the highest.

    One that fails takes the others with it: they would wait for it for ever. Call from the main thread.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    ranks: list[subprocess.Popen[bytes]] = []

    def pass_on(*_: object) -> None:
        for rank in ranks:
            rank.terminate()

    signal.signal(signal.SIGTERM, pass_on)
    for number in range(count):
        own = {"RANK": str(number), "LOCAL_RANK": str(number)}
        ranks.append(subprocess.Popen(command, env=os.environ | world | own))
    failed: int | None = None
    while True:  # looked at, not waited for: a signal that comes just before a wait is not seen until its end
        codes = [rank.poll() for rank in ranks]
        failed = failed or next((code for code in codes if code not in PEACEFUL), None)
        ended = [code for code in codes if code is not None]
        if len(ended) == count:
            break
        if failed:
            for rank in ranks:
                rank.kill()
        time.sleep(LOOK_SECONDS)
    code = failed or max(ended)
    return code if code >= 0 else 128 - code  # a death by signal, as a shell counts
