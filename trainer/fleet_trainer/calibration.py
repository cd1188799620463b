"""Whether a model that says 80 % is right in 80 % of such cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10


class Bin(TypedDict):
    """The windows whose class was told with a probability above `above`, up to `upto`."""

    above: float
    upto: float
    confidence: float  # the mean of those probabilities
    accuracy: float
    windows: int


class Calibration(TypedDict):
    ece: float  # mean distance of confidence and accuracy over the bins, each by its share of the windows
    brier: float  # mean squared distance of the probabilities and the truth, summed over classes: 0 to 2
    bins: list[Bin]  # without the empty ones


def calibration(actual: NDArray[np.int64], probabilities: NDArray[np.float32]) -> Calibration:
    """Of (windows,) classes and their (windows, classes) probabilities."""
    told = probabilities.astype(np.float64)
    confidence, right = told.max(1), told.argmax(1) == actual
    edges = np.linspace(0, 1, BINS + 1)
    number = np.clip(np.searchsorted(edges, confidence) - 1, 0, BINS - 1)  # rounding may pass 1
    windows = np.bincount(number, minlength=BINS)
    confident, hits = (np.bincount(number, values, BINS) for values in (confidence, right))
    truth = np.eye(told.shape[1])[actual]
    return {
        "ece": fixed(np.abs(confident - hits).sum() / len(told)),
        "brier": fixed(((told - truth) ** 2).sum(1).mean()),
        "bins": [
            {
                "above": fixed(edges[one]),
                "upto": fixed(edges[one + 1]),
                "confidence": fixed(confident[one] / windows[one]),
                "accuracy": fixed(hits[one] / windows[one]),
                "windows": int(windows[one]),
            }
            for one in np.flatnonzero(windows)
        ],
    }


def fixed(value: float) -> float:
    """Six decimals: what is written never hangs on the last bits of a sum."""
    return round(float(value), 6)
