"""Test metrics with honest intervals: whole hosts or whole recordings are resampled, never windows.

Windows of one recording are alike, so resampling them makes intervals about three times too narrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

import numpy as np

from fleet_trainer.calibration import Calibration, calibration, fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleet_trainer.windows import Windows

LEVEL = 0.95
FEW_GROUPS = 10  # below, the interval is a rough one and says so


class Bootstrap(NamedTuple):
    unit: str  # "host" or "recording"
    n_resamples: int
    seed: int


class Metric(TypedDict):
    value: float
    low: float
    high: float
    unit: str  # of the value; these are plain shares


class Interval(TypedDict):
    resampled: str
    groups: int
    level: float
    n_resamples: int
    caution: NotRequired[str]


class Evaluation(TypedDict):
    metrics: dict[str, Metric]  # the first is the headline
    interval: Interval
    classes: dict[str, dict[str, float]]  # f1, precision, recall, windows
    confusion: list[list[int]]  # a row for each actual class, a column for each predicted one
    hosts: dict[str, dict[str, float]]  # accuracy, macro_f1, windows
    worst_host: str
    calibration: Calibration


def evaluate(
    windows: Windows, probabilities: NDArray[np.float32], classes: Sequence[str], bootstrap: Bootstrap
) -> Evaluation:
    """Of (windows, classes) probabilities; the likeliest class is the predicted one."""
    predicted = probabilities.argmax(1)
    groups = windows.host if bootstrap.unit == "host" else windows.recording
    tables = confusions(groups, windows.y, predicted, len(classes))
    total = tables.sum(0)
    draws = resample(tables, bootstrap.n_resamples, bootstrap.seed)
    metrics: dict[str, Metric] = {}
    for name, score in (("accuracy", accuracy), ("macro_f1", macro_f1)):
        low, high = np.quantile(score(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        value = score(total[None])[0]
        metrics[name] = {
            "value": fixed(value),
            "low": fixed(low),
            "high": fixed(high),
            "unit": "",
        }
    interval: Interval = {
        "resampled": bootstrap.unit,
        "groups": len(tables),
        "level": LEVEL,
        "n_resamples": bootstrap.n_resamples,
    }
    if len(tables) < FEW_GROUPS:
        interval["caution"] = f"only {len(tables)} {bootstrap.unit}s were tested: the interval is a rough one"
    hosts = _per_host(windows, predicted, len(classes))
    return {
        "metrics": metrics,
        "interval": interval,
        "classes": _per_class(total, classes),
        "confusion": total.tolist(),
        "hosts": hosts,
        "worst_host": min(hosts, key=lambda host: hosts[host]["accuracy"]),
        "calibration": calibration(windows.y, probabilities),
    }


def confusions(
    groups: Sequence[str], actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """(groups, classes, classes) counts, groups in sorted order, [g, actual, predicted]."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    tables = np.zeros((len(names), classes, classes), np.int64)
    np.add.at(tables, (group, actual, predicted), 1)
    return tables


def resample(tables: NDArray[np.int64], n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Bootstrap over groups as one product: how often each group is drawn, times its confusion table."""
    groups, classes, _ = tables.shape
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=n_resamples)
    return (drawn @ tables.reshape(groups, -1)).reshape(n_resamples, classes, classes)


def accuracy(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    hits: NDArray[np.int64] = np.trace(tables, axis1=1, axis2=2)
    share: NDArray[np.float64] = hits / tables.sum((1, 2))
    return share


def macro_f1(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean F1 over the classes that were there or were predicted."""
    hits = np.einsum("gcc->gc", tables)
    seen = tables.sum(1) + tables.sum(2)
    mean: NDArray[np.float64] = (2 * hits / np.maximum(seen, 1)).sum(1) / (seen > 0).sum(1)
    return mean


def _per_class(table: NDArray[np.int64], classes: Sequence[str]) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    for number, name in enumerate(classes):
        hits, predicted, actual = table[number, number], table[:, number].sum(), table[number].sum()
        rows[name] = {
            "f1": fixed(2 * hits / max(predicted + actual, 1)),
            "precision": fixed(hits / max(predicted, 1)),
            "recall": fixed(hits / max(actual, 1)),
            "windows": int(actual),
        }
    return rows


def _per_host(windows: Windows, predicted: NDArray[np.int64], classes: int) -> dict[str, dict[str, float]]:
    tables = confusions(windows.host, windows.y, predicted, classes)
    scores = zip(
        sorted(set(windows.host)), accuracy(tables), macro_f1(tables), tables.sum((1, 2)), strict=True
    )
    return {
        host: {"accuracy": fixed(right), "macro_f1": fixed(f1), "windows": int(count)}
        for host, right, f1, count in scores
    }
