"""The building blocks the networks share. All take standardised (batch, samples, channels)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from fleet_trainer.errors import SpecRefused
from fleet_trainer.windows import moments

if TYPE_CHECKING:
    from fleet_trainer.models.transformer import Transformer
    from fleet_trainer.task import Shape
    from fleet_trainer.windows import Inputs


class Standardise(nn.Module):
    """Z-score by the training set's statistics, which so travel inside the model file.

    Not per window: that would delete gravity's direction, and with it ten points of accuracy.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: Inputs, limit: float) -> None:
        super().__init__()
        mean, deviation = moments(inputs)
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("deviation", torch.from_numpy(deviation).float())
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        """What is missing becomes the training set's mean."""
        return ((x - self.mean) / self.deviation).clamp(-self.limit, self.limit).nan_to_num(0.0)


class ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class MeanOverTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


class Residual(nn.Module):
    """Three convolutions (kernels 9, 5, 3) beside a 1x1 shortcut; (batch, channels, samples)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, outputs, 9, stride),
            nn.ReLU(),
            *_convolution(outputs, outputs, 5),
            nn.ReLU(),
            *_convolution(outputs, outputs, 3),
        )
        self.shortcut = nn.Sequential(*_convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm1d(outputs)]


class Recurrent(nn.Module):
    """A convolutional stem that shortens the window four times, then bidirectional recurrent layers."""

    def __init__(
        self, cell: type[nn.GRU | nn.LSTM], shape: Shape, *, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        _, channels = shape.inputs
        self.stem = nn.Sequential(
            ChannelsFirst(),
            *_convolution(channels, width, 9, stride=2),
            nn.ReLU(),
            *_convolution(width, width, 5, stride=2),
            nn.ReLU(),
            ChannelsFirst(),
        )
        between = dropout if depth > 1 else 0.0  # torch warns about dropout between one layer
        self.cell = cell(width, width, depth, batch_first=True, bidirectional=True, dropout=between)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, shape.classes))

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(self.stem(x))
        logits: Tensor = self.head(states.mean(1))
        return logits


class PatchTransformer(nn.Module):
    """Patches of samples as tokens with learned positions; `reconstruction` is its unlabelled task."""

    def __init__(self, shape: Shape, hyper: Transformer) -> None:
        super().__init__()
        samples, channels = shape.inputs
        if samples < hyper.patch:
            raise SpecRefused(f"hyper.patch {hyper.patch} is longer than the window of {samples} samples")
        self.patch, self.tokens = hyper.patch, samples // hyper.patch
        width = hyper.heads * hyper.head_width
        self.embed = nn.Linear(channels * hyper.patch, width)
        self.position = nn.Parameter(torch.randn(1, self.tokens, width) * 0.02)
        self.hidden = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(
            width, hyper.heads, 2 * width, hyper.layer_dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, hyper.depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Sequential(nn.Dropout(hyper.dropout), nn.Linear(width, shape.classes))
        self.restore = nn.Linear(width, channels * hyper.patch)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self._encode(self._patches(x)).mean(1))
        return logits

    def reconstruction(self, x: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
        """Mean squared error of the patches hidden from the encoder."""
        patches = self._patches(x)
        mask = (torch.rand(patches.shape[:2], generator=generator) < ratio).to(x.device)
        mask[:, 0] |= ~mask.any(1)  # of a few long patches, chance may hide none
        restored: Tensor = self.restore(self._encode(patches, mask))
        return (restored - patches)[mask].square().mean()

    def _patches(self, x: Tensor) -> Tensor:
        return x[:, : self.tokens * self.patch].reshape(len(x), self.tokens, -1)

    def _encode(self, patches: Tensor, mask: Tensor | None = None) -> Tensor:
        embedded = self.embed(patches)
        if mask is not None:
            embedded = torch.where(mask[..., None], self.hidden, embedded)
        encoded: Tensor = self.encoder(embedded + self.position)
        return encoded
