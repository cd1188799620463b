"""A report says what was told and nothing more, and the same jobs give the same files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet_client.report import Heading, Told, report
from fleet_protocol.artifacts import Bin, Calibration, Evaluation
from fleet_protocol.jobs import Metric
from fleet_protocol.states import JobStatus
from tests.client.fake import NOW, a_job, completed, detail_of

HEAD = Heading("lab", NOW)
TESTED = Evaluation(
    classes={"walk": {"f1": 0.9}, "run|<b>": {"f1": 0.8}},
    confusion=((3, 1), (0, 4)),
    hosts={"s1": {}},
    calibration=Calibration(
        ece=0.02, brier=0.2, bins=(Bin(above=0.9, upto=1, confidence=0.95, accuracy=0.875, windows=8),)
    ),
)


def a_told(number: int, value: float, **spec: object) -> Told:
    detail = detail_of(completed(number)).model_copy(
        update={"metrics": {"accuracy": Metric(value=value, low=value - 0.1, high=value + 0.05)}}
    )
    detail = detail.model_copy(update={"spec": detail.spec.model_copy(update=spec)})
    return Told(detail, {"loss": ((0, 1.0, 0.0), (1, None, 1.0), (2, 0.5, 2.0))}, TESTED)


def test_an_empty_fleet_has_a_short_report():
    assert report([], HEAD) == (
        "# lab\n\nAs of 2026-03-01 12:00 UTC.\n\nThere are no jobs: `fleet reload FILE` queues a manifest's.\n"
    )


def test_seeds_share_a_cell_and_are_averaged_other_splits_do_not():
    told = [a_told(1, 0.8), a_told(2, 0.9, seed=1), a_told(3, 0.7, split_recipe="time")]
    page = report(told, HEAD)
    assert "| model | realistic, host | realistic, time |" in page
    assert r"| gbt (trees=30) | mean 0.850, 0.800 to 0.900 in 2 jobs | 0.700 \[0.600, 0.750\] |" in page
    assert r"walk taken for run\|\<b\> 1 time." in page
    assert "Calibration: expected error 0.020, Brier score 0.200." in page
    assert "| 0.9 to 1.0 | 8 | 0.950 | 0.875 |" in page


def test_failures_and_what_they_cost_are_told():
    failed = detail_of(a_job(1, JobStatus.FAILED, name="a | b", reason="no [such](x) host"))
    attempt = failed.history[0].model_copy(update={"ended_at": NOW + timedelta(minutes=3)})
    page = report([Told(failed.model_copy(update={"history": (attempt,)}))], HEAD)
    assert r"| a \| b | 0000000000000001 | 0 | pi-garage | no \[such\](x) host |" in page
    assert "| pi-garage | 1 | 3m | 3m |" in page
    assert "Results" not in page


def test_pictures_are_drawn_and_the_same_again(tmp_path: Path):
    pytest.importorskip("matplotlib")
    from fleet_client.report_pictures import draw

    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        names = draw(a_told(1, 0.8), folder)
        assert names == ("confusion-0000000000000001.png", "curves-0000000000000001.png")
        made.append([(folder / name).read_bytes() for name in names])
    assert made[0] == made[1]
    head = Heading("lab", NOW, {"0" * 15 + "1": ("curves-1.png",)})
    assert "![learning curves](curves-1.png)" in report([a_told(1, 0.8)], head)
