"""Window features for gbt and mlp: moments, quantiles, differences, spectrum, correlations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fleet_trainer.store import allocate
from fleet_trainer.windows import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleet_trainer.windows import Windows

# Upper edges of the spectral bands in cycles per sample: octaves, with everything above the last in one.
BANDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.51)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TINY = 1e-6
PER_SIGNAL = 11 + len(QUANTILES) + 4 + len(BANDS)


def features(windows: Windows, vectors: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    """(windows, features); each vector's length counts as a channel too. NaN where a channel is missing."""
    signals = windows.shape[2] + len(vectors)
    width = PER_SIGNAL * signals + windows.shape[2] * (windows.shape[2] - 1) // 2
    table = allocate(len(windows), width)
    for rows in blocks(windows):
        table[rows] = _features(windows[rows], vectors)
    return table


def _features(x: NDArray[np.float32], vectors: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    lengths = [np.linalg.norm(x[:, :, list(axes)], axis=2, keepdims=True) for axes in vectors]
    signals = np.concatenate([x, *lengths], axis=2).astype(np.float32)
    missing = np.isnan(signals[:, 0])  # a channel is there for the whole window or not at all
    signals, x = np.nan_to_num(signals), np.nan_to_num(x)
    rows = [*_shape(signals), *_spectrum(signals), _correlations(x)]
    first, second = np.triu_indices(x.shape[2], 1)
    holes = [*[missing] * PER_SIGNAL, missing[:, first] | missing[:, second]]
    table: NDArray[np.float32] = np.nan_to_num(
        np.concatenate([np.asarray(row, np.float32) for row in rows], axis=1)
    )
    table[np.concatenate(holes, axis=1)] = np.nan
    return table


def _shape(z: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    mean, deviation = z.mean(1), z.std(1)
    centred = z - mean[:, None]
    steps = np.diff(z, axis=1) if z.shape[1] > 1 else np.zeros_like(z)
    crossings = np.diff(np.signbit(centred), axis=1).sum(1) / z.shape[1]
    return [
        mean,
        deviation,
        z.min(1),
        z.max(1),
        *np.quantile(z, QUANTILES, axis=1),
        np.abs(centred).mean(1),
        (centred**3).mean(1) / (deviation**3 + TINY),
        (centred**4).mean(1) / (deviation**4 + TINY),
        np.sqrt((z**2).mean(1)),
        np.abs(steps).mean(1),
        steps.std(1),
        crossings,
    ]


def _spectrum(z: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    samples = z.shape[1]
    taper = np.hanning(samples)[None, :, None]
    power = np.abs(np.fft.rfft((z - z.mean(1, keepdims=True)) * taper, axis=1)) ** 2
    share = power / (power.sum(1, keepdims=True) + 1e-9)
    frequency = np.fft.rfftfreq(samples)
    band = np.searchsorted(BANDS, frequency, side="right")
    return [
        (share * frequency[None, :, None]).sum(1),
        frequency[power.argmax(1)],
        share.max(1),
        -(share * np.log(share + 1e-12)).sum(1),
        *(np.log(power[:, band == number].sum(1) + TINY) for number in range(len(BANDS))),
    ]


def _correlations(x: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = x - x.mean(1, keepdims=True)
    covariance = np.einsum("nlc,nld->ncd", centred, centred) / x.shape[1]
    deviation = np.sqrt(np.einsum("ncc->nc", covariance)) + TINY
    first, second = np.triu_indices(x.shape[2], 1)
    pairs: NDArray[np.float32] = (covariance / deviation[:, :, None] / deviation[:, None, :])[
        :, first, second
    ]
    return pairs
