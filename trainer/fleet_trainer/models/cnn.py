"""A convolutional network: residual blocks (kernels 9, 5, 3), average over time, one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fleet_trainer.hyper import NetHyper

if TYPE_CHECKING:
    from torch import nn

    from fleet_trainer.task import Shape


class Cnn(NetHyper):
    """A residual convolutional network on the raw window."""

    width: int = Field(32, ge=4, le=1024, description="channels of the first block; the next have twice")
    depth: int = Field(3, ge=1, le=8, description="residual blocks; the first two halve the length")

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        from fleet_trainer.layers import ChannelsFirst, MeanOverTime, Residual

        _, last = shape.inputs
        layers: list[nn.Module] = [ChannelsFirst()]
        for level in range(self.depth):
            width = self.width * (1 if level == 0 else 2)
            layers.append(Residual(last, width, stride=2 if level < 2 else 1))
            last = width
        head = [MeanOverTime(), nn.Dropout(self.dropout), nn.Linear(last, shape.classes)]
        return nn.Sequential(*layers, *head)
