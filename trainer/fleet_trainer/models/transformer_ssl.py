"""The same transformer, first taught to fill in masked patches of the training windows (no labels used)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fleet_trainer.models.transformer import Transformer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fleet_trainer.train import Phase


class TransformerSsl(Transformer):
    """A transformer encoder, self-supervised by masked patches before it is trained."""

    epochs: int = Field(15, ge=1, le=100_000, description="passes over the training windows, after those")
    pretrain_epochs: int = Field(15, ge=1, le=100_000, description="passes of self-supervised training")
    pretrain_lr: float = Field(2e-3, gt=0, le=1, description="peak learning rate of those passes")
    mask_ratio: float = Field(0.5, gt=0, lt=1, description="share of the patches hidden")

    learns_unlabelled: ClassVar[bool] = True

    def phases(self, class_weights: NDArray[np.float32] | None) -> list[Phase]:
        from fleet_trainer.train import Phase, reconstruction

        loss = reconstruction(self.mask_ratio)
        pretrain = Phase("pretrain", self.pretrain_epochs, self.pretrain_lr, loss, unlabelled=True)
        return [pretrain, *super().phases(class_weights)]
