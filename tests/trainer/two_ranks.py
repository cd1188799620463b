"""What each of two ranks does in `test_devices`: three runs, for what costs most is to import torch."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from fleet_trainer.errors import Stopped
from fleet_trainer.job import Job
from tests.trainer.synthetic import TINY, environment, job_spec, train_here
from tests.trainer.test_resume import StopsAt

STILL = TINY["transformer"] | {"dropout": 0.0, "layer_dropout": 0.0}
"""Without dropout and batch statistics, halves of a batch averaged are the batch."""


def main(folder: Path, data: Path) -> None:
    def told(name: str) -> dict[str, str]:
        return dict(os.environ) | environment(folder / name, data)

    train_here(folder, data, job_spec("transformer", hyper=STILL), Job(told("still")))
    train_here(folder, data, job_spec("cnn"), Job(told("whole")))
    asked = int(os.environ["RANK"])  # of the two, one is asked to stop
    with contextlib.suppress(Stopped):
        train_here(folder, data, job_spec("cnn"), StopsAt(told("stopped"), 3 * asked))
        raise AssertionError("it was not stopped")
    train_here(folder, data, job_spec("cnn"), Job(told("stopped")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
