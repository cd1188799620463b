"""The job as fleet hands it over: a JSON file with the fields that fix what is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fleet_trainer.errors import SpecRefused
from fleet_trainer.hyper import Hyper, parse, suggest
from fleet_trainer.models import MODELS


class DatasetRef(BaseModel):
    """What the data in FLEET_DATA must be, where the manifest names a data set."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    sha256: str


class JobSpec(BaseModel):
    """Unknown further keys are tolerated, so that a newer server can talk to an older trainer."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    schema_version: Literal[1] = Field(alias="schema")
    job_id: str
    model: str
    mode: Literal["realistic", "oracle"]
    hyper: dict[str, JsonValue]
    split_recipe: Literal["host", "sample", "time"]
    train_hosts: list[str]
    seed: int
    n_resamples: Annotated[int, Field(ge=1, le=1_000_000)]
    dataset: DatasetRef | None = None

    def settings(self) -> Hyper:
        """The model's hyper-parameters with defaults filled in. SpecRefused names every wrong one."""
        if self.model not in MODELS:
            raise SpecRefused(f"model {self.model} is not built in{suggest(self.model, MODELS)}")
        return parse(MODELS[self.model], self.hyper, prefix="hyper.", owner=self.model)


def read_spec(path: Path) -> JobSpec:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecRefused(f"cannot read the job spec {path}: {error.strerror}") from None
    except ValueError as error:
        raise SpecRefused(f"the job spec {path} is not JSON: {error}") from None
    return parse(JobSpec, value, prefix="", owner="the job spec")
