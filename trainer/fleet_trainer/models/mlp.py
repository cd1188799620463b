"""A multi-layer perceptron on the window features that gbt uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fleet_trainer.hyper import Fraction, NetHyper

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fleet_trainer.task import Shape
    from fleet_trainer.windows import Windows


class Mlp(NetHyper):
    """A multi-layer perceptron on window features."""

    input_limit: ClassVar[float] = 5.0  # ratios and logarithms have heavy tails

    epochs: int = Field(30, ge=1, le=100_000, description="passes over the training windows")
    lr: float = Field(2e-3, gt=0, le=1, description="peak learning rate of the one-cycle schedule")
    dropout: Fraction = Field(0.4, description="dropout after every hidden layer")
    width: int = Field(256, ge=4, le=8192, description="units of the first hidden layer; each next has half")
    depth: int = Field(2, ge=1, le=8, description="hidden layers")

    def inputs(self, windows: Windows, vectors: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        from fleet_trainer.features import features

        return features(windows, vectors)

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        layers: list[nn.Module] = []
        (last,) = shape.inputs
        for level in range(self.depth):
            width = max(self.width >> level, 4)
            layers += [nn.Linear(last, width), nn.BatchNorm1d(width), nn.GELU(), nn.Dropout(self.dropout)]
            last = width
        return nn.Sequential(*layers, nn.Linear(last, shape.classes))
