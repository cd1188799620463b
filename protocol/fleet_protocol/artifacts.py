"""What is told of an artifact beside it and inside it: who made it from what, and how well it did."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet_protocol.ids import JobId, Sha256, job_id
from fleet_protocol.jobs import ArtifactView, JobSpec
from fleet_protocol.wire import Answer

METRICS_FILE = "metrics.json"
MAX_METRICS_BYTES = 8 << 20
MAX_CLASSES = 200


class Certificate(Answer):
    """Lies beside a fetched artifact, so that what it is can be told without the coordinator."""

    fleet: str
    artifact: ArtifactView
    spec: JobSpec

    @property
    def identity(self) -> JobId:
        """The id that follows from what was trained; another than the job's own where either was changed."""
        keys = {"model", "mode", "hyper", "split_recipe", "train_hosts", "seed"}
        identity = self.spec.model_dump(mode="json", include=keys)
        return job_id(identity | self.digests)

    @property
    def digests(self) -> dict[str, Sha256]:
        """Of the data set and the source that the manifest gave the job, where it gave any."""
        source = self.spec.program.source if self.spec.program else None
        dataset = self.spec.dataset.sha256 if self.spec.dataset else None
        return {key: sha256 for key, sha256 in (("dataset", dataset), ("source", source)) if sha256}


Row = Annotated[tuple[int, ...], Field(max_length=MAX_CLASSES)]


class Bin(Answer):
    """The windows whose class was told with a probability above `above`, up to `upto`."""

    above: float
    upto: float
    confidence: float
    accuracy: float
    windows: int


class Calibration(Answer):
    ece: float
    brier: float
    bins: Annotated[tuple[Bin, ...], Field(max_length=MAX_CLASSES)] = ()


class Evaluation(Answer):
    """What the built-in trainer's `metrics.json` says beyond the metrics; each part may be missing."""

    classes: dict[str, dict[str, float]] = Field(default_factory=dict, max_length=MAX_CLASSES)
    """By class: `f1`, `precision`, `recall`, `windows`, in the order of the confusion matrix."""
    confusion: Annotated[tuple[Row, ...], Field(max_length=MAX_CLASSES)] = ()
    """A row for each actual class, a column for each predicted one."""
    hosts: dict[str, dict[str, float]] = Field(default_factory=dict, max_length=MAX_CLASSES)
    """By host: `accuracy`, `macro_f1`, `windows`."""
    calibration: Calibration | None = None
