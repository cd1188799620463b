"""What is said of jobs side by side: only what their intervals allow."""

from __future__ import annotations

import pytest

from fleet_client.compare import differences, identity, same_artifacts, standings, verdict
from fleet_protocol.jobs import JobDetail, Metric
from tests.client.fake import completed, detail_of


def a_detail(number: int, metric: Metric, **spec: object) -> JobDetail:
    detail = detail_of(completed(number)).model_copy(update={"metrics": {"accuracy": metric}})
    return detail.model_copy(update={"spec": detail.spec.model_copy(update=spec)})


ONE = Metric(value=0.86, low=0.80, high=0.90)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Metric(value=0.86), "equal"),
        (Metric(value=0.85), "no interval: unknown"),
        (Metric(value=0.85, low=0.81, high=0.89), "within the intervals"),
        (Metric(value=0.91, low=0.85, high=0.95), "intervals overlap: open"),
        (Metric(value=0.95, low=0.91, high=0.99), "beyond the intervals"),
        (Metric(value=0.70, low=0.60, high=0.79), "beyond the intervals"),
    ],
)
def test_a_verdict_says_no_more_than_the_intervals(other: Metric, said: str):
    assert verdict(ONE, other, alike=True) == said
    assert verdict(other, ONE, alike=True) == said
    assert verdict(ONE, other, alike=False) == "tested on other data"


def test_figures_of_other_splits_are_not_held_against_each_other():
    jobs = [a_detail(1, ONE), a_detail(2, ONE, hyper={"trees": 60}), a_detail(3, ONE)]
    assert [one.verdict for one in standings(jobs)] == ["", "equal", "equal"]
    jobs[2] = a_detail(3, ONE, split_recipe="time")
    assert [one.verdict for one in standings(jobs)] == ["", "equal", "tested on other data"]
    drawn = [a_detail(4, ONE, split_recipe="sample"), a_detail(5, ONE, split_recipe="sample", seed=1)]
    assert [one.verdict for one in standings(drawn)] == ["", "tested on other data"]
    found = {one.field: one.values for one in differences([identity(job) for job in jobs])}
    assert found == {"split_recipe": ('"host"', '"host"', '"time"'), "hyper.trees": ("30", "60", "30")}
    assert same_artifacts(jobs) is True
    assert same_artifacts([jobs[0], jobs[1].model_copy(update={"artifact": None})]) is None
