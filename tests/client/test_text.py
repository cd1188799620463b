from __future__ import annotations

from datetime import timedelta

import pytest

from fleet_client.text import figure, headline, one_line, span
from fleet_protocol.jobs import Metric


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0s"), (8, "8s"), (60, "1m"), (190, "3m 10s"), (7500, "2h 5m"), (86_400, "1d"), (349_200, "4d 1h")],
)
def test_spans_have_two_units_at_most(seconds: int, said: str):
    assert span(timedelta(seconds=seconds)) == said


def test_a_figure_has_its_interval_and_unit():
    assert figure(Metric(value=0.8614, low=0.806, high=0.904, unit="host")) == "0.861 [0.806, 0.904] host"
    assert figure(Metric(value=12345.6)) == "1.235e+04"


def test_the_first_metric_is_the_headline():
    assert headline({"accuracy": Metric(value=0.5), "f1": Metric(value=0.4)}) == "accuracy 0.500"
    assert headline({}) == ""


def test_names_cannot_drive_the_terminal():
    assert "\x1b" not in one_line("evil\x1b]0;title\x07name")
    assert one_line("two\r\n  lines") == "two lines"
