"""What an artifact does by itself: tell its own figures again, and the classes of data it has never seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from fleet_trainer.artifact import write_predictions
from fleet_trainer.bundle import METRICS, as_json
from fleet_trainer.data import Known, load
from fleet_trainer.errors import DataWrong
from fleet_trainer.metrics import Bootstrap, Evaluation, evaluate
from fleet_trainer.rebuild import rebuild
from fleet_trainer.splits import split
from fleet_trainer.task import derived_seed
from fleet_trainer.windows import cut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet_trainer.bundle import Bundle
    from fleet_trainer.job import Job

TOLERANCE = 1e-5  # another type of machine computes other last bits


class Difference(NamedTuple):
    figure: str
    here: object
    artifact: object


class Reproduction(NamedTuple):
    evaluation: Evaluation
    differences: list[Difference]  # from the artifact's own metrics.json


def reproduce(bundle: Bundle, job: Job, data: Path | None) -> Reproduction:
    """Split, cut and test as when it was trained. ArtifactWrong, SpecRefused, DataWrong, OSError."""
    spec, hyper = bundle.spec, bundle.hyper
    there = as_json(bundle.path, METRICS, bundle.file(METRICS))
    dataset = load(data, spec.mode, bundle.trained.data.sha256)
    _check_rate(bundle, dataset.rate_hz)
    parts = split(dataset, spec, derived_seed(spec.seed, "split"))
    test = cut(parts.test, dataset.rate_hz, hyper)
    probabilities = rebuild(bundle, job, test).predict(test)
    bootstrap = Bootstrap(parts.unit, spec.n_resamples, derived_seed(spec.seed, "bootstrap"))
    evaluation = evaluate(test, probabilities, dataset.classes, bootstrap)
    return Reproduction(evaluation, list(compare(evaluation, there)))


def predict(bundle: Bundle, job: Job, data: Path | None, out: Path) -> int:
    """Write a row for each window of `data`, whose labels are not looked at; how many. Errors as of `reproduce`."""
    trained = bundle.trained.data
    known = Known(tuple(trained.channels), tuple(trained.classes))
    dataset = load(data, bundle.spec.mode, known=known)
    _check_rate(bundle, dataset.rate_hz)
    windows = cut(dataset.recordings, dataset.rate_hz, bundle.hyper, unlabelled=True)
    probabilities = rebuild(bundle, job, windows).predict(windows)
    partial = out.with_name(f"{out.name}.part")
    write_predictions(partial, windows, probabilities, dataset.classes, labelled=False)
    partial.replace(out)
    return len(windows)


def compare(here: object, there: object, figure: str = "") -> Iterator[Difference]:
    """Where two metrics.json differ by more than the last bits. One without calibration is an older trainer's."""
    match here, there:
        case dict(), dict():
            for key in sorted(here.keys() | there.keys()):
                if not (figure == "" and key == "calibration" and key not in there):
                    yield from compare(here.get(key), there.get(key), f"{figure}.{key}".lstrip("."))
        case list(), list() if len(here) == len(there):
            for number, pair in enumerate(zip(here, there, strict=True)):
                yield from compare(*pair, f"{figure}[{number}]")
        case float(), float() | int() if math.isclose(here, there, rel_tol=0, abs_tol=TOLERANCE):
            return
        case _ if here != there:
            yield Difference(figure, here, there)


def _check_rate(bundle: Bundle, rate_hz: float) -> None:
    if rate_hz != bundle.trained.data.rate_hz:
        raise DataWrong(
            f"the data has {rate_hz} samples a second, the model was trained on {bundle.trained.data.rate_hz};"
            " resample it"
        )
