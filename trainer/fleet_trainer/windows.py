"""Windows of equal length out of recordings of any length."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet_trainer.errors import DataWrong

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleet_trainer.data import Recording
    from fleet_trainer.hyper import Hyper


class Windows(NamedTuple):
    x: NDArray[np.float32]  # (windows, samples, channels)
    y: NDArray[np.int64]  # (windows,)
    host: list[str]
    recording: list[str]
    start_seconds: NDArray[np.float64]  # since the recording began

    @property
    def channel_rows(self) -> NDArray[np.float32]:
        return self.x.reshape(-1, self.x.shape[-1])


def cut(recordings: Sequence[Recording], rate_hz: float, hyper: Hyper) -> Windows:
    """Average `decimation` samples into one, then cut; a shorter recording is padded with its last sample."""
    rate = rate_hz / hyper.decimation
    length, stride = max(round(hyper.window_seconds * rate), 1), max(round(hyper.stride_seconds * rate), 1)
    pieces, labels, hosts, names, starts = [], [], [], [], []
    for recording in recordings:
        values = _decimate(recording.values, hyper.decimation)
        if len(values) == 0:
            continue
        if len(values) < length:
            values = np.pad(values, ((0, length - len(values)), (0, 0)), mode="edge")
        for start in range(0, len(values) - length + 1, stride):
            pieces.append(values[start : start + length])
            labels.append(recording.label)
            hosts.append(recording.host)
            names.append(recording.name)
            starts.append(recording.start / rate_hz + start / rate)
    if not pieces:
        raise DataWrong(f"no recording has the {hyper.decimation} samples that decimation averages into one")
    return Windows(np.stack(pieces), np.array(labels), hosts, names, np.array(starts))


def _decimate(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    whole = len(values) // factor * factor
    averaged: NDArray[np.float32] = values[:whole].reshape(-1, factor, values.shape[1]).mean(axis=1)
    return averaged
