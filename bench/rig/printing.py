"""What trainers print, each line with the time: `python -m bench.rig.printing FOLDER ATTEMPTS SECONDS`.

Writes 10 KB/s into each of the FIFOs FOLDER/0, FOLDER/1, …, ten lines at a time; ends when the time is over, and
with it whoever reads there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

LINE_BYTES, LINES = 100, 10
ROUND_SECONDS = 0.1


def main(folder: Path, attempts: int, seconds: float) -> None:
    pipes = [os.open(folder / str(number), os.O_WRONLY) for number in range(attempts)]
    due = time.monotonic()
    for _ in range(round(seconds / ROUND_SECONDS)):
        for pipe in pipes:
            due += ROUND_SECONDS / attempts
            time.sleep(max(0.0, due - time.monotonic()))
            line = f"{time.monotonic_ns()} ".encode().ljust(LINE_BYTES - 1, b".") + b"\n"
            os.write(pipe, line * LINES)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
