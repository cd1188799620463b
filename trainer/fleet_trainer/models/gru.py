"""A gated recurrent network behind a convolutional stem that shortens the window four times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fleet_trainer.hyper import NetHyper

if TYPE_CHECKING:
    from torch import nn

    from fleet_trainer.task import Shape


class Gru(NetHyper):
    """A bidirectional GRU behind a convolutional stem."""

    epochs: int = Field(12, ge=1, le=100_000, description="passes over the training windows")
    width: int = Field(64, ge=4, le=1024, description="channels of the stem and units per direction")
    depth: int = Field(2, ge=1, le=8, description="recurrent layers")

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        from fleet_trainer.layers import Recurrent

        return Recurrent(nn.GRU, shape, width=self.width, depth=self.depth, dropout=self.dropout)
