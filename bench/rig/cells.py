"""The table's cells: what is trained for each, and what its predictions come to. `python -m bench.rig.cells FOLDER`
prints the Markdown table of what is complete so far, also while the bench runs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import polars as pl

from bench.rig.costing import Cost
from bench.rig.programs import HEAD
from fleet_trainer.metrics import accuracy, confusions, macro_f1, resample

MODELS = ("gbt", "mlp", "cnn", "gru", "lstm", "transformer", "transformer_ssl")
REFERENCES = ("minirocket", "hydra")
HOSTS = tuple(f"subject-{number:02}" for number in range(1, 11))
FOLDS = tuple(HOSTS[first : first + 2] for first in range(0, 10, 2))
EFFORT: Mapping[str, tuple[str, dict[str, int]]] = {"mlp_x5": ("mlp", {"members": 5})}
"""Rows beside the models at their defaults; what they are was chosen on inner folds."""
SPREAD, SEEDS = ("mlp", "cnn", "gru"), range(1, 5)
"""The best three on inner folds, over further seeds."""
RESAMPLES = 1000


class Cell(NamedTuple):
    split: str
    mode: str
    row: str
    seed: int = 0

    @property
    def fits(self) -> list[Fit]:
        return [Fit(self, fold) for fold in range(len(FOLDS) if self.split == "host" else 1)]


class Fit(NamedTuple):
    cell: Cell
    fold: int

    @property
    def name(self) -> str:
        return "_".join(map(str, [*self.cell, self.fold]))

    @property
    def train_hosts(self) -> list[str]:
        held = FOLDS[self.fold] if self.cell.split == "host" else ()
        return [host for host in HOSTS if host not in held]

    @property
    def table(self) -> str:
        model, hyper = EFFORT.get(self.cell.row, (self.cell.row, {}))
        settings = ", ".join(f"{key} = {value}" for key, value in hyper.items())
        return (
            f'[[jobs]]\nname = "{self.name}"\nmodel = "{model}"\nmode = "{self.cell.mode}"\n'
            f'split_recipe = "{self.cell.split}"\nseed = {self.cell.seed}\n'
            f"train_hosts = {json.dumps(self.train_hosts)}\nhyper = {{ {settings} }}\n"
        )


def cells() -> Iterator[Cell]:
    """All of them in the order in which they are trained."""
    for split, modes in (
        ("host", ["oracle"]),
        ("host", ["realistic"]),
        ("time", ["oracle", "realistic"]),
        ("sample", ["oracle", "realistic"]),
    ):
        for mode in modes:
            rows = [*MODELS, *EFFORT] if split == "host" else MODELS
            yield from (Cell(split, mode, row) for row in rows)
    yield from (Cell("host", "oracle", row, seed) for seed in SEEDS for row in SPREAD)


def manifest(fits: Iterable[Fit]) -> str:
    """The first one first: each has a priority of its own."""
    listed = list(fits)
    tables = (f"{fit.table}priority = {len(listed) - number}\n" for number, fit in enumerate(listed))
    return HEAD + "\n".join(tables)


@dataclass(frozen=True)
class Result:
    """A cell's test windows of all its folds together. Whole hosts are resampled under `host`, else recordings."""

    cell: Cell
    accuracy: float
    low: float
    high: float
    macro_f1: float
    unit: str
    worst: tuple[str, float]
    cpu_seconds: float
    """Of one fit, from the process's start to its end; the mean over folds."""
    peak_rss_mib: float


def result(folder: Path, cell: Cell, fits: Iterable[Fit] | None = None) -> Result | None:
    """None while one of its fits is missing."""
    places = [folder / fit.name for fit in fits or cell.fits]
    if not all((place / "cost.json").exists() for place in places):
        return None
    tests = pl.concat(pl.read_parquet(place / "predictions.parquet") for place in places)
    spent = [Cost(**json.loads((place / "cost.json").read_text())) for place in places]
    names = sorted({*tests["label"].to_list(), *tests["predicted"].to_list()})
    actual, predicted = (np.searchsorted(names, tests[column].to_list()) for column in ("label", "predicted"))
    unit = "host" if cell.split == "host" else "recording"
    tables = confusions(tests[unit].to_list(), actual, predicted, len(names))
    by_host = confusions(tests["host"].to_list(), actual, predicted, len(names))
    low, high = np.quantile(accuracy(resample(tables, RESAMPLES, seed=0)), [0.025, 0.975])
    return Result(
        cell,
        accuracy=float(accuracy(tables.sum(0)[None])[0]),
        low=float(low),
        high=float(high),
        macro_f1=float(macro_f1(tables.sum(0)[None])[0]),
        unit=unit,
        worst=min(
            zip(sorted(set(tests["host"])), accuracy(by_host).tolist(), strict=True), key=lambda h: h[1]
        ),
        cpu_seconds=mean(cost.cpu_seconds for cost in spent),
        peak_rss_mib=max(cost.peak_rss_mib for cost in spent),
    )


def markdown(folder: Path) -> str:
    """Of what is complete."""
    found = [r for r in (result(folder, cell) for cell in [*cells(), *references()]) if r is not None]
    by_row: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for one in found:
        by_row[one.cell[:3]].append(one)
    lines = [
        "| split | mode | model | accuracy | 95 % interval (resampled) | macro-F1 | worst host"
        " | CPU s a fit | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (split, mode, row), seeds in sorted(by_row.items(), key=lambda entry: _place(*entry[0])):
        first, worst = seeds[0], seeds[0].worst
        lines.append(
            f"| {split} | {mode} | {row} | {first.accuracy:.3f} | {first.low:.3f}-{first.high:.3f} ({first.unit}s)"
            f" | {first.macro_f1:.3f} | {worst[0]} {worst[1]:.3f} | {first.cpu_seconds:.1f}"
            f" | {first.peak_rss_mib:.0f} |"
        )
    spreads = [
        f"| {split} | {mode} | {row} | {len(seeds)} | {mean(s.accuracy for s in seeds):.3f} |"
        f" {min(s.accuracy for s in seeds):.3f}-{max(s.accuracy for s in seeds):.3f} |"
        for (split, mode, row), seeds in by_row.items()
        if len(seeds) > 1
    ]
    if spreads:
        lines += [
            "",
            "| split | mode | model | seeds | mean accuracy | range |",
            "|---|---|---|---|---|---|",
            *spreads,
        ]
    return "\n".join(lines) + "\n"


def references() -> Iterator[Cell]:
    for split in ("host", "time", "sample"):
        yield from (Cell(split, mode, row) for mode in ("oracle", "realistic") for row in REFERENCES)


def _place(split: str, mode: str, row: str) -> tuple[int, str, int]:
    rows = [*MODELS, *EFFORT, *REFERENCES]
    return ["host", "time", "sample"].index(split), mode, rows.index(row)


if __name__ == "__main__":
    print(markdown(Path(sys.argv[1]) / "results"))
