"""fleet's trainer: seven models on labelled multivariate time series, and the helper for other scripts."""

from __future__ import annotations

from fleet_trainer.job import Job, job

# Raised whenever the same job would give other bits.
TRAINER_VERSION = "2"

__all__ = ["TRAINER_VERSION", "Job", "job"]
