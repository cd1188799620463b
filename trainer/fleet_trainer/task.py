"""What a model is given to learn from, and what it gives back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fleet_trainer.data import Dataset
    from fleet_trainer.job import Job
    from fleet_trainer.spec import JobSpec
    from fleet_trainer.windows import Windows


class Shape(NamedTuple):
    inputs: tuple[int, ...]  # of one example: (samples, channels), or (features,)
    classes: int


@dataclass(frozen=True, eq=False)
class Task:
    job: Job
    spec: JobSpec
    dataset: Dataset
    train: Windows


class Fitted(Protocol):
    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(windows, classes) probabilities."""

    def save(self, folder: Path) -> None:
        """Write the model file: the same bits for the same job."""


def derived_seed(seed: int, purpose: str) -> int:
    """One stream per purpose, so that more resamples, say, cannot change the model."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # LightGBM's seeds are 31 bits


def member_seed(seed: int, member: int) -> int:
    """The seed of one of several networks; the first one's is the job's, so it is what it would be alone."""
    return derived_seed(seed, f"member {member}") if member else seed
