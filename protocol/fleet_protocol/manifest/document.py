"""The manifest's tables as they are written, strict to the last key."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fleet_protocol.jobs import Mode, SplitRecipe

DEFAULT_TRAIN_HOSTS = ("elliott-thinkpad",)

_CONTROL = r"\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: a terminal would obey them
Name = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=200, pattern=rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"
    ),
]
Model = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
Gib = Annotated[float, Field(ge=0, le=1_000_000)]
Cores = Annotated[int, Field(ge=0, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Resamples = Annotated[int, Field(ge=1, le=1_000_000)]
TrainHosts = Annotated[list[Name], Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]
Lease = Annotated[float, Field(ge=1, le=7 * 86_400)]


class Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class HostPolicy(Table):
    """What a host may run. An empty allow list allows every model; deny wins."""

    description: str = ""
    priority: Priority = 0
    allow_jobs: list[Model] = []
    deny_jobs: list[Model] = []

    def refuses(self, model: str) -> str | None:
        """The rule that keeps `model` from this host, or None."""
        if model in self.deny_jobs:
            return f"deny_jobs = {self.deny_jobs}"
        if self.allow_jobs and model not in self.allow_jobs:
            return f"allow_jobs = {self.allow_jobs}"
        return None


class ModelEntry(Table):
    """A trainer of the operator's own. `command` may name `{hyper.KEY}`, `{data}`, `{output_dir}`, `{seed}`."""

    command: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)] | None = None
    hyper: dict[str, object] | None = None
    """A JSON Schema; without one anything goes."""
    outputs: list[Annotated[str, Field(min_length=1)]] = []


class DatasetEntry(Table):
    path: Annotated[str, Field(min_length=1)]
    description: str = ""


class Defaults(Table):
    """Values for jobs that do not say otherwise."""

    split_recipe: SplitRecipe = "host"
    min_ram_gib: Gib = 4
    min_cores: Cores = 1
    train_hosts: TrainHosts = list(DEFAULT_TRAIN_HOSTS)
    seed: Seed = 0
    n_resamples: Resamples = 1000


class JobEntry(Table):
    """One `[[jobs]]` table as written."""

    name: Name
    model: Model
    mode: Mode = "realistic"
    priority: Priority = 0
    require_cuda: bool = False
    prefer_cuda: bool = False
    prefer_wait: Annotated[float, Field(ge=0, le=7 * 86_400)] = 300
    gpus: Annotated[int, Field(ge=1, le=64)] = 1
    nodes: Annotated[int, Field(ge=1, le=1)] = 1
    min_vram_gib: Gib = 0
    min_ram_gib: Gib | None = None
    min_cores: Cores | None = None
    allowed_hosts: list[Name] = []
    denied_hosts: list[Name] = []
    hyper: dict[str, object] = {}
    matrix: dict[str, Annotated[list[object], Field(min_length=1, max_length=1000)]] = {}
    dataset: Name | None = None
    split_recipe: SplitRecipe | None = None
    train_hosts: TrainHosts | None = None
    seed: Seed | None = None
    n_resamples: Resamples | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    timeout: Seconds | None = None
    lease: Lease | None = None
    exclusive: bool = False


class Document(Table):
    """The whole file as written."""

    schema_version: Annotated[int, Field(ge=1, le=1)]  # a Literal would take true and 1.0 for it
    name: Name = "training-fleet"
    defaults: Defaults = Defaults()
    hosts: dict[Name, HostPolicy] = {}
    models: dict[Model, ModelEntry] = {}
    datasets: dict[Name, DatasetEntry] = {}
    jobs: Annotated[list[JobEntry], Field(min_length=1)]
