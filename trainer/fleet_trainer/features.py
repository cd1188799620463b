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
LAGS = (2, 5, 10)  # in samples: which channel leads another tells which way round a movement goes
TINY = 1e-6
PER_SIGNAL = 11 + len(QUANTILES) + 4 + len(BANDS)


def features(windows: Windows, vectors: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    """(windows, features); each vector's length counts as a channel too. NaN where a channel is missing."""
    signals = windows.shape[2] + len(vectors)
    channels = windows.shape[2]
    width = PER_SIGNAL * signals + channels * (channels - 1) // 2 + len(LAGS) * channels**2
    table = allocate(len(windows), width)
    for rows in blocks(windows):
        table[rows] = _features(windows[rows], vectors)
    return table


def _features(x: NDArray[np.float32], vectors: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    lengths = [np.linalg.norm(x[:, :, list(axes)], axis=2, keepdims=True) for axes in vectors]
    signals = np.concatenate([x, *lengths], axis=2).astype(np.float32)
    missing = np.isnan(signals[:, 0])  # a channel is there for the whole window or not at all
    signals, x = np.nan_to_num(signals), np.nan_to_num(x)
    first, second = np.triu_indices(x.shape[2], 1)
    lagged = [_correlations(x, lag).reshape(len(x), -1) for lag in LAGS]
    rows = [*_shape(signals), *_spectrum(signals), _correlations(x, 0)[:, first, second], *lagged]
    either = missing[:, :, None] | missing[:, None]
    either = either[:, : x.shape[2], : x.shape[2]]
    holes = [*[missing] * PER_SIGNAL, either[:, first, second], *[either.reshape(len(x), -1)] * len(LAGS)]
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


def _correlations(x: NDArray[np.float32], lag: int) -> NDArray[np.float32]:
    """(windows, channels, channels): of each channel `lag` samples later, with each one."""
    centred = x - x.mean(1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(1)) + TINY
    later, earlier = centred[:, lag:], centred[:, : max(x.shape[1] - lag, 0)]
    covariance = np.einsum("nlc,nld->ncd", later, earlier) / x.shape[1]
    table: NDArray[np.float32] = covariance / deviation[:, :, None] / deviation[:, None]
    return table
