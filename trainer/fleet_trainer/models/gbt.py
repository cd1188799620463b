"""Gradient-boosted trees (LightGBM) on window features: trains in seconds and is hard to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fleet_trainer.hyper import Hyper

if TYPE_CHECKING:
    from fleet_trainer.task import Fitted, Task


class Gbt(Hyper):
    """Gradient-boosted trees on window features."""

    trees: int = Field(300, ge=1, le=100_000, description="boosting rounds, one tree per class in each")
    lr: float = Field(0.05, gt=0, le=1, description="shrinkage of each tree")
    leaves: int = Field(15, ge=2, le=65_536, description="most leaves of a tree")
    depth: int = Field(0, ge=0, le=64, description="most levels of a tree; 0 is no limit")
    min_leaf: int = Field(20, ge=1, le=1_000_000, description="fewest windows in a leaf")
    row_fraction: float = Field(0.8, gt=0, le=1, description="share of the windows each tree sees")
    feature_fraction: float = Field(0.3, gt=0, le=1, description="share of the features each tree sees")
    l2: float = Field(1.0, ge=0, le=1e6, description="L2 penalty on leaf values")

    def fit(self, task: Task) -> Fitted:
        from fleet_trainer.boost import fit

        return fit(self, task)
