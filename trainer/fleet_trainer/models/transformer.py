"""A small transformer encoder over patches of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fleet_trainer.hyper import Fraction, NetHyper

if TYPE_CHECKING:
    from torch import nn

    from fleet_trainer.task import Shape


class Transformer(NetHyper):
    """A transformer encoder over patches of the window."""

    epochs: int = Field(20, ge=1, le=100_000, description="passes over the training windows")
    lr: float = Field(2e-3, gt=0, le=1, description="peak learning rate of the one-cycle schedule")
    patch: int = Field(10, ge=1, le=1024, description="samples per token")
    heads: int = Field(4, ge=1, le=64, description="attention heads")
    head_width: int = Field(16, ge=1, le=256, description="width per head; a token has heads x head_width")
    depth: int = Field(3, ge=1, le=48, description="encoder layers")
    layer_dropout: Fraction = Field(0.1, description="dropout inside the encoder layers")

    def build(self, shape: Shape) -> nn.Module:
        from fleet_trainer.layers import PatchTransformer

        return PatchTransformer(shape, self)
