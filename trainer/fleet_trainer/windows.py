"""Windows of equal length out of recordings of any length: positions in the samples, never copies of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from fleet_trainer.data import UNLABELLED, Recording
from fleet_trainer.errors import DataWrong
from fleet_trainer.store import allocate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fleet_trainer.hyper import Hyper

BLOCK_BYTES = 4 << 20  # what is computed at once


@dataclass(frozen=True, eq=False)
class Windows:
    samples: NDArray[np.float32]  # (samples, channels) of all recordings behind each other
    starts: NDArray[np.int64]  # of each window in the samples
    length: int  # samples of each window
    y: NDArray[np.int64]  # (windows,); UNLABELLED ones come last
    host: list[str]
    recording: list[str]
    start_seconds: NDArray[np.float64]  # since the recording began

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.starts), self.length, self.samples.shape[1])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """(rows, length, channels), copied out. NaN: a channel that has no value in that stretch of a recording."""
        gathered: NDArray[np.float32] = self.samples[self.starts[rows][:, None] + np.arange(self.length)]
        return gathered


# What a model learns from: windows, or a table of features with a row for each.
Inputs: TypeAlias = "Windows | NDArray[np.float32]"


class Piece(NamedTuple):
    """A stretch of one label that windows are cut from."""

    recording: Recording
    begin: int  # in the recording's values
    samples: int  # after decimation
    label: int


def cut(
    recordings: Sequence[Recording], rate_hz: float, hyper: Hyper, *, unlabelled: bool = False
) -> Windows:
    """Average `decimation` samples into one, then cut within stretches of one label.

    A recording shorter than a window is padded with its last sample. Gaps are filled within a stretch.
    DataWrong when there is no window; OSError when there is no room.
    """
    rate = rate_hz / hyper.decimation
    length, stride = max(round(hyper.window_seconds * rate), 1), max(round(hyper.stride_seconds * rate), 1)
    found = [piece for recording in recordings for piece in _pieces(recording, hyper.decimation, length)]
    pieces = [piece for piece in found if piece.label != UNLABELLED]
    if unlabelled:
        pieces += [piece for piece in found if piece.label == UNLABELLED]
    if not pieces:
        raise DataWrong(
            f"no labelled stretch gives a window of {hyper.window_seconds} s; lower hyper.window_seconds"
            " or hyper.decimation"
        )
    rows = [max(piece.samples, length) for piece in pieces]
    samples = allocate(sum(rows), recordings[0].values.shape[1])
    offsets = np.cumsum([0, *rows])
    starts = [np.arange(0, size - length + 1, stride) for size in rows]
    counts = [len(part) for part in starts]
    for piece, offset, size in zip(pieces, offsets, rows, strict=False):
        _write(piece, hyper.decimation, samples[offset : offset + size])
    seconds = [
        (p.recording.start + p.begin) / rate_hz + part / rate for p, part in zip(pieces, starts, strict=True)
    ]
    return Windows(
        samples,
        np.concatenate([offset + part for offset, part in zip(offsets, starts, strict=False)]),
        length,
        np.repeat([piece.label for piece in pieces], counts),
        [piece.recording.host for piece, count in zip(pieces, counts, strict=True) for _ in range(count)],
        [piece.recording.name for piece, count in zip(pieces, counts, strict=True) for _ in range(count)],
        np.concatenate(seconds),
    )


def blocks(inputs: Inputs) -> Iterator[slice]:
    """Rows of a few MiB at a time, from first to last."""
    rows = max(BLOCK_BYTES // (4 * int(np.prod(inputs.shape[1:]))), 1)
    return (slice(begin, begin + rows) for begin in range(0, len(inputs), rows))


def moments(inputs: Inputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of every channel over all values that are there.

    A channel that does not vary gets an infinite deviation: it tells nothing, and another value of it in the test
    must not blow up.
    """
    channels = inputs.shape[-1]
    count, total, squares = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    for rows in blocks(inputs):
        wide = inputs[rows].reshape(-1, channels).astype("float64")  # millions of float32 would lose digits
        count += (~np.isnan(wide)).sum(0)
        total += np.nansum(wide, 0)
    mean = total / np.maximum(count, 1)
    for rows in blocks(inputs):
        wide = inputs[rows].reshape(-1, channels) - mean
        squares += np.nansum(wide**2, 0)
    deviation = np.sqrt(squares / np.maximum(count, 1))
    noise = 1e-6 * np.abs(mean)  # of numbers of 24 bits
    return mean, np.where(deviation > noise, deviation, np.inf)


def _pieces(recording: Recording, decimation: int, length: int) -> Iterator[Piece]:
    for run in recording.runs:
        samples = (run.end - run.begin) // decimation
        # A short recording is padded; between two changes of the label, a short stretch tells little.
        if samples >= length or (samples and len(recording.runs) == 1):
            yield Piece(recording, run.begin, samples, run.label)


def _write(piece: Piece, decimation: int, target: NDArray[np.float32]) -> None:
    values = piece.recording.values[piece.begin : piece.begin + piece.samples * decimation]
    target[: piece.samples] = _filled(values).reshape(piece.samples, decimation, -1).mean(axis=1)
    target[piece.samples :] = target[piece.samples - 1]


def _filled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear over gaps, the nearest value at both ends; a channel without any value stays NaN."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    values = values.copy()
    for channel in np.flatnonzero(missing.any(0) & ~missing.all(0)):
        gaps, known = np.flatnonzero(missing[:, channel]), np.flatnonzero(~missing[:, channel])
        values[gaps, channel] = np.interp(gaps, known, values[known, channel])
    return values
