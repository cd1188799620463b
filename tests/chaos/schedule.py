"""Which fault comes when: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

QUIET_SECONDS = 4.0  # a fleet has to be there before anything can befall it
PAUSE_SECONDS = 1.6
LONGEST_SECONDS = 7.0  # more than twice a lease

WEIGHTS = {
    "kill the coordinator": 5,
    "stop the coordinator": 3,
    "pause the coordinator": 3,
    "kill an agent": 6,
    "drain an agent": 3,
    "hurry an agent": 2,
    "renew an agent": 2,
    "pause an agent": 4,
    "sleep": 3,
    "reboot": 4,
    "kill a supervisor": 4,
    "kill a trainer": 3,
    "pause a trainer": 2,
    "cut": 5,
    "half-close": 3,
    "refusing": 2,
    "frozen": 3,
    "deaf": 5,
    "slow": 2,
    "throttled": 3,
    "no_websocket": 3,
    "fill the disk of an agent": 2,
    "fill the disk of logs": 2,
    "back up": 2,
    "restore": 0.5,
}


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    """Seconds after the start."""
    kind: str
    victim: int
    """The machine, counted round."""
    seconds: float
    """How long it lasts."""

    def __str__(self) -> str:
        return f"{self.at:7.1f} s  {self.kind}, machine {self.victim}, {self.seconds:.1f} s"


def schedule(seed: int, minutes: float, machines: int, kinds: Sequence[str]) -> list[Fault]:
    """Every kind once, in any order, then by weight, until the time is up."""
    luck = random.Random(seed)
    first = luck.sample(sorted(kinds), len(kinds))
    weights = [WEIGHTS[kind] for kind in kinds]
    faults: list[Fault] = []
    at = QUIET_SECONDS
    while at < minutes * 60:
        kind = first.pop() if first else luck.choices(kinds, weights)[0]
        seconds = luck.uniform(0.2, LONGEST_SECONDS) if luck.random() < 0.7 else 0.2
        faults.append(Fault(at, kind, luck.randrange(machines), seconds))
        at += luck.expovariate(1 / PAUSE_SECONDS)
    return faults
