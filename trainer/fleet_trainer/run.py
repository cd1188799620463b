"""One job from its spec to its artifact, top to bottom."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fleet_trainer.artifact import describe, write_json, write_predictions
from fleet_trainer.bundle import JOB, METRICS, PREDICTIONS
from fleet_trainer.data import load
from fleet_trainer.job import say
from fleet_trainer.metrics import Bootstrap, evaluate
from fleet_trainer.splits import split
from fleet_trainer.task import Task, derived_seed
from fleet_trainer.windows import cut

if TYPE_CHECKING:
    from fleet_trainer.hyper import Hyper
    from fleet_trainer.job import Job
    from fleet_trainer.spec import JobSpec


def run(job: Job, spec: JobSpec, hyper: Hyper) -> None:
    """Train, test and write the artifact into the output folder. TrainerError says what went wrong."""
    began = time.monotonic()
    job.phase("data")
    dataset = load(job.data, spec.mode, spec.dataset.sha256 if spec.dataset else None)
    parts = split(dataset, spec, derived_seed(spec.seed, "split"))
    train = cut(parts.train, dataset.rate_hz, hyper, unlabelled=hyper.learns_unlabelled)
    test = cut(parts.test, dataset.rate_hz, hyper)
    say(
        f"{spec.model} on {dataset.name}, {spec.mode}: {len(dataset.channels)} channels,"
        f" {len(dataset.classes)} classes; {spec.split_recipe} split: {len(train.y)} windows to train on,"
        f" {len(test.y)} to test on"
    )
    fitted = hyper.fit(Task(job, spec, dataset, train))
    if job.rank > 0:
        return

    job.phase("test")
    probabilities = fitted.predict(test)
    bootstrap = Bootstrap(parts.unit, spec.n_resamples, derived_seed(spec.seed, "bootstrap"))
    result = evaluate(test, probabilities, dataset.classes, bootstrap)

    job.output_dir.mkdir(parents=True, exist_ok=True)
    fitted.save(job.output_dir)
    write_json(job.output_dir / METRICS, result, sort_keys=False)
    write_json(job.output_dir / JOB, describe(spec, hyper, dataset, parts).model_dump())
    write_predictions(job.output_dir / PREDICTIONS, test, probabilities, dataset.classes)
    for name, metric in result["metrics"].items():
        say(
            f"test {name} {metric['value']:.4f}  [{metric['low']:.4f}, {metric['high']:.4f}] over {parts.unit}s"
        )
    say(f"worst host {result['worst_host']}; {time.monotonic() - began:.1f} s in all")
