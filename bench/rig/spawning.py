"""How fast this machine starts `true` and sees it end: `python -m bench.rig.spawning COUNT SLOTS`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time


def main(count: int, slots: int) -> None:
    program = shutil.which("true") or "true"
    began = time.perf_counter()
    for number in range(count + slots):
        if number >= slots:
            os.wait()
        if number < count:
            os.posix_spawn(program, [program], os.environ)
    print(json.dumps({"per_second": count / (time.perf_counter() - began)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
