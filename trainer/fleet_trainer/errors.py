"""What can go wrong in a way a person can mend: one sentence each, and the exit code the agent acts on.

TrainerError (1: counts as a failed attempt)
├── SpecRefused (2: no host could train this; never retried)
├── ArtifactWrong (2: an artifact that is none of ours, or spoiled)
├── DataWrong (3: missing or wrong here; another host may have it)
└── Stopped (75: asked to stop; resumes from the checkpoint)
"""

from __future__ import annotations

from typing import ClassVar


class TrainerError(Exception):
    exit_code: ClassVar[int] = 1


class SpecRefused(TrainerError):
    exit_code = 2


class ArtifactWrong(TrainerError):
    exit_code = 2


class DataWrong(TrainerError):
    exit_code = 3


class Stopped(TrainerError):
    exit_code = 75
