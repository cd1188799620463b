from __future__ import annotations

import numpy as np
import pytest

from fleet_trainer.calibration import calibration
from fleet_trainer.metrics import Bootstrap, accuracy, confusions, evaluate, macro_f1, resample
from fleet_trainer.windows import Windows

CLASSES = ("a", "b", "c")


def make(actual: list[int], host: list[str], recording: list[str]) -> Windows:
    nothing, starts = np.zeros((1, 1), np.float32), np.zeros(len(actual), np.int64)
    return Windows(nothing, starts, 1, np.array(actual), host, recording, np.zeros(len(actual)))


@pytest.fixture
def scattered() -> tuple[Windows, np.ndarray]:
    rng = np.random.default_rng(3)
    host = [f"h{number % 12:02}" for number in range(600)]
    recording = [f"{name}-{number % 5}" for number, name in enumerate(host)]
    windows = make(rng.integers(0, 3, 600).tolist(), host, recording)
    return windows, np.where(rng.random(600) < 0.8, windows.y, rng.integers(0, 3, 600))


def test_resampling_as_a_product_is_resampling_whole_groups(scattered):
    windows, predicted = scattered
    tables = confusions(windows.host, windows.y, predicted, 3)
    drawn = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=20)
    for times, fast in zip(drawn, resample(tables, 20, seed=5), strict=True):
        rows = [
            row
            for number, host in enumerate(sorted(set(windows.host)))
            for row in np.flatnonzero(np.array(windows.host) == host).tolist() * times[number]
        ]
        slow = confusions(["all"] * len(rows), windows.y[rows], predicted[rows], 3)
        assert (slow[0] == fast).all()


@pytest.mark.parametrize(("unit", "groups"), [("host", 12), ("recording", 60)])
def test_the_interval_is_over_the_unit_asked_for(scattered, unit, groups):
    windows, predicted = scattered
    result = evaluate(windows, np.eye(3)[predicted], CLASSES, Bootstrap(unit, 500, 1))
    assert result["interval"] == {"resampled": unit, "groups": groups, "level": 0.95, "n_resamples": 500}
    assert list(result["metrics"]) == ["accuracy", "macro_f1"]
    for metric in result["metrics"].values():
        assert metric["low"] < metric["value"] < metric["high"]


def test_alike_windows_do_not_narrow_the_interval():
    """Four recordings, two right and two wrong: a thousand windows of each say no more than one."""
    recording = [name for name in "pqrs" for _ in range(1000)]
    predicted = np.array([0] * 2000 + [1] * 2000)
    result = evaluate(
        make([0] * 4000, recording, recording),
        np.eye(3)[predicted],
        CLASSES,
        Bootstrap("recording", 1000, 1),
    )
    assert result["metrics"]["accuracy"] == {"value": 0.5, "low": 0.0, "high": 1.0, "unit": ""}
    assert "only 4 recordings" in result["interval"]["caution"]


def test_macro_f1_counts_only_classes_that_occur():
    table = confusions(["x"] * 4, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 3)
    assert macro_f1(table)[0] == pytest.approx((0.8 + 2 / 3) / 2)
    assert accuracy(table)[0] == 0.75


def test_hosts_and_classes_have_their_own_rows():
    windows = make([0, 1, 0, 1], ["ann", "ann", "bob", "bob"], ["p", "q", "r", "s"])
    result = evaluate(
        windows, np.eye(2, dtype=np.float32)[[0, 1, 0, 0]], ("a", "b"), Bootstrap("host", 10, 1)
    )
    assert result["worst_host"] == "bob"
    assert result["hosts"]["ann"] == {"accuracy": 1.0, "macro_f1": 1.0, "windows": 2}
    assert result["classes"]["b"] == {"f1": 0.666667, "precision": 1.0, "recall": 0.5, "windows": 2}
    assert result["confusion"] == [[2, 0], [1, 1]]


def test_calibration_compares_what_was_told_with_what_was_true():
    """Told 0.8 five times and right four times; told 0.6 twice and never right: off by nothing, and by 0.6."""
    told = np.array([[0.8, 0.2]] * 5 + [[0.4, 0.6]] * 2)
    result = calibration(np.array([0, 0, 0, 0, 1, 0, 0]), told)
    assert result["ece"] == pytest.approx(2 / 7 * 0.6, abs=1e-6)
    assert result["brier"] == pytest.approx((4 * 0.08 + 1.28 + 2 * 0.72) / 7, abs=1e-6)
    assert result["bins"] == [
        {"above": 0.5, "upto": 0.6, "confidence": 0.6, "accuracy": 0.0, "windows": 2},
        {"above": 0.7, "upto": 0.8, "confidence": 0.8, "accuracy": 0.8, "windows": 5},
    ]


def test_calibration_takes_certainty_and_its_rounding():
    certain = np.array([[1, 0], [0, np.nextafter(np.float32(1), np.float32(2))]], np.float32)
    assert calibration(np.array([0, 1]), certain) == {
        "ece": 0.0,
        "brier": 0.0,
        "bins": [{"above": 0.9, "upto": 1.0, "confidence": 1.0, "accuracy": 1.0, "windows": 2}],
    }
