"""Histories from a seed, without Hypothesis: the same steps at full speed, and again from the seed alone."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from fleet_protocol.plan import ReloadRequest
from tests.properties.history import CHANGED, OFTEN, WORKERS, History, greeting
from tests.properties.inline import Backup, Stage, drive
from tests.server.coordinator import FakeClock

T = TypeVar("T")
STEPS = 24
SETTLED = 10
"""One history in so many ends with the faults, and must come to rest."""


class Seeded:
    """Chance from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, options: Sequence[T]) -> T:
        return options[int(self._random.random() * len(options))]


def furnish(stage: Stage) -> Backup:
    """The beginning of every history: a manifest, and three workers that have said hello."""
    drive(stage.manifests.reload(ReloadRequest(toml=CHANGED["as it was"], file="m"), "operator"))
    for name in WORKERS:
        drive(stage.workers.hello(greeting(name, [])))
    return stage.backup()


def begin_again(stage: Stage, beginning: Backup) -> None:
    shutil.rmtree(stage.settings.data / "logs", ignore_errors=True)
    stage.clock._now = FakeClock().now()
    stage.restore(beginning)


def play(stage: Stage, beginning: Backup, seed: int, sometimes: Counter[str]) -> None:
    """One history; an AssertionError names its seed and the steps that led there."""
    begin_again(stage, beginning)
    choice = Seeded(seed)
    history = History(stage, choice, sometimes)
    history.begin()
    taken: list[str] = []
    try:
        for _ in range(STEPS):
            taken.append(choice.of(OFTEN))
            history.step(taken[-1])
        if seed % SETTLED == 0:
            taken.append("settle")
            history.settle()
    except Exception as error:
        error.add_note(f"seed {seed}: {' '.join(taken)}")
        raise
