"""What a worker offers. `None` means that a probe gave no answer: unknown is a value, never a guess."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MOST_CORES, MOST_JOBS = 100_000, 1024
Text = Annotated[str, StringConstraints(max_length=300)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Gpu(BaseModel):
    """One accelerator as the driver or torch reports it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    kind: Literal["cuda", "rocm", "mps"]
    name: Text
    vram_gib: Annotated[float, Field(ge=0)]
    driver: Text | None = None


class Capability(BaseModel):
    """A worker's machine and what is installed on it, as sent with hello."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    hostname: Text
    os: Text
    cores: Annotated[int, Field(ge=1, le=MOST_CORES)]
    ram_gib: Annotated[float, Field(ge=0)]
    gpus: tuple[Gpu, ...] = ()
    models: tuple[ModelName, ...]
    """Models that this host permits and has installed."""
    commands: bool = False
    """Whether this host runs the manifest's own programs."""
    datasets: bool = False
    """Whether this host fetches the manifest's data sets; otherwise it has its own data only."""
    data: bool = True
    """Whether this host has data of its own, for the built-in models of jobs that name no data set."""
    max_jobs: Annotated[int, Field(ge=1, le=MOST_JOBS)] = 1
    python: Text | None = None
    torch: Text | None = None
    """torch's version in the trainer's interpreter; None when it is not installed there."""
    trainer: Text | None = None
    """Version of the built-in trainer's code: it changes whenever the same job would give other bits."""
    cpu: Text | None = None
    git_commit: Text | None = None
    git_dirty: bool | None = None

    @property
    def cuda_gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.gpus if gpu.kind == "cuda")

    @property
    def vram_gib(self) -> float:
        """VRAM of the largest CUDA device, in GiB; 0 without one."""
        return max((gpu.vram_gib for gpu in self.cuda_gpus), default=0.0)
