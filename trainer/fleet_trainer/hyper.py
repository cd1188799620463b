"""Hyper-parameters: strict, frozen, and the single source of the JSON Schemas that manifests are checked with.

No rule spans two fields, so that the schema alone decides before anything is queued.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fleet_trainer.errors import SpecRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fleet_trainer.task import Fitted, Shape, Task
    from fleet_trainer.train import Phase
    from fleet_trainer.windows import Inputs, Windows

Fraction = Annotated[float, Field(ge=0, lt=1)]
AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Hyper(BaseModel, ABC):
    """What every model declares: how windows are cut, and how many threads fix the bits."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    decimation: int = Field(2, ge=1, le=1000, description="average so many samples into one")
    window_seconds: float = Field(4.0, gt=0, le=1e6, description="length of one window")
    stride_seconds: float = Field(2.0, gt=0, le=1e6, description="from one window's start to the next")
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="balanced: every class weighs the same in the loss, however rare it is"
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads; part of what fixes the result's bits")

    # Are windows without a label of use for training?
    learns_unlabelled: ClassVar[bool] = False

    @abstractmethod
    def fit(self, task: Task) -> Fitted: ...

    def class_weights(self, task: Task) -> NDArray[np.float32] | None:
        """(classes,): what a window of each class counts for, one on average; None when all count the same."""
        if self.class_weight == "none":
            return None
        import numpy as np

        y = task.train.y[task.train.y >= 0]
        counts = np.bincount(y, minlength=len(task.dataset.classes))
        share = len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return np.where(counts > 0, share, 0).astype(np.float32)


class NetHyper(Hyper):
    """What every network declares: AdamW under a one-cycle schedule, label smoothing, gradient clipping."""

    epochs: int = Field(15, ge=1, le=100_000, description="passes over the training windows")
    batch_size: int = Field(32, ge=2, le=65_536, description="windows per step")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate of the one-cycle schedule")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay")
    label_smoothing: Fraction = Field(0.1, description="share of the target spread over all classes")
    clip_norm: float = Field(1.0, gt=0, le=1e6, description="gradients are clipped to this norm")
    dropout: Fraction = Field(0.3, description="dropout before the last layer and between layers")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16: what it is good enough for is computed in it, on a device that can"
    )
    members: int = Field(1, ge=1, le=64, description="networks trained, by other seeds, and averaged")

    # Standardised inputs are clipped to this many deviations.
    input_limit: ClassVar[float] = float("inf")

    def inputs(self, windows: Windows, vectors: Sequence[tuple[int, ...]]) -> Inputs:
        """What the network sees of the windows, not yet standardised: (windows, *shape.inputs)."""
        return windows

    @abstractmethod
    def build(self, shape: Shape) -> nn.Module:
        """A network from standardised (batch, *shape.inputs) to (batch, shape.classes) logits."""

    def phases(self, class_weights: NDArray[np.float32] | None) -> list[Phase]:
        from fleet_trainer.train import Phase, classification

        return [Phase("train", self.epochs, self.lr, classification(self.label_smoothing, class_weights))]

    def fit(self, task: Task) -> Fitted:
        from fleet_trainer.train import fit

        return fit(self, task)


def parse(model: type[AnyModel], value: JsonValue, *, prefix: str, owner: str) -> AnyModel:
    """Validate JSON; SpecRefused with every problem in one sentence, each with its key and a suggestion."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise SpecRefused("; ".join(_sentences(error, model, prefix, owner))) from None


def _sentences(error: ValidationError, model: type[BaseModel], prefix: str, owner: str) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        key = prefix + ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            yield f"{key} is not a setting of {owner}{suggest(str(problem['loc'][-1]), model.model_fields)}"
        elif problem["type"] == "missing":
            yield f"{key} is missing from {owner}"
        else:
            found = repr(problem["input"])
            yield f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, found {found[:60]}"


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; it knows {', '.join(names)}"
