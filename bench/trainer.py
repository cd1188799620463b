"""The trainer's figures: how well and at what cost the seven models do, trained as fleet jobs, beside other work.

python3 run.py bench trainer --folder DIR     all of them; the table takes hours and goes on where it was stopped
python3 run.py bench trainer --quick          one fold of two models: whether it works
python3 run.py bench trainer --only NAME,NAME those whose names begin so: table, reference, uea, start, loop
  --jobs-at-once N     so many trainers of the table side by side
  --folder DIR         the table's coordinator, agent and results; given again, only what is missing is trained

`python -m bench.rig.cells DIR` prints the table of what is complete, as Markdown, at any time.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from backports import zstd

from bench.figure import Figure
from bench.rig import cells
from bench.rig.cells import Cell, Fit
from bench.rig.costing import costs, run
from bench.rig.demo import ROOT
from bench.rig.place import Parts, Place, chosen, load
from bench.rig.programs import Fleet, cpu_seconds, environment, running
from fleet_protocol.archive import read_archive

PUBLISHED = {
    ("host", "oracle"): Figure("by-subject random forest, Burns et al. 2018 v1", 0.873, "accuracy"),
    ("time", "oracle"): Figure("temporal CRNN, Burns et al. 2018 v1", 0.996, "accuracy"),
}
LOOK_SECONDS = 1.0
AEON = ROOT / ".venv-aeon"
INSTALL = f"pip install --no-deps --require-hashes --target {AEON.name} -r requirements/bench.txt"


def measure(*options: str) -> Iterator[Figure]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with this
    given = dict(pairwise(options))
    folder = Path(given["--folder"]).resolve() if "--folder" in given else None
    parts: Parts = {
        "table": partial(table, folder, int(given.get("--jobs-at-once", "1"))),
        "reference": partial(reference, folder),
        "uea": archive,
        "start": starting,
        "loop": looping,
    }
    return chosen(parts, *options)


def table(folder: Path | None, at_once: int, place: Place, name: str) -> Iterator[Figure]:
    """Each fit is a job of one manifest; applied again it trains what is missing, and nothing twice."""
    folder = prepared(folder or place.new())
    wanted = [Cell("host", "oracle", row) for row in ("gbt", "mlp")] if place.quick else list(cells.cells())
    fits = {fit.name: fit for cell in wanted for fit in cell.fits if not place.quick or fit.fold == 0}
    text = cells.manifest(fits.values())
    with running(folder, manifest=text) as fleet:
        with fleet.client("operator") as http:
            body = {"toml": text, "file": "table.toml"}
            http.post("/v1/manifest/reload", json=body).raise_for_status()
        fleet.agent("trainer", str(costed(folder)), "--max-jobs", str(at_once), "--cores", str(at_once))
        collect(fleet, fits)
    for cell in wanted:
        yield from figures(folder, cell, [fit for fit in fits.values() if fit.cell == cell])
    (folder / "table.md").write_text(cells.markdown(folder / "results"))


def prepared(folder: Path) -> Path:
    for name in ("results", "costs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    convert = [sys.executable, "-m", "fleet_trainer", "convert", "watch", "--out", str(folder / "data")]
    subprocess.run(convert, stdout=sys.stderr, check=True)
    return folder


def costed(folder: Path) -> Path:
    """A `python` whose trainers' costs are written down."""
    script, python = folder / "python", shlex.quote(sys.executable)
    watch = f"{shlex.quote(str(ROOT / 'bench/rig/costing.py'))} {shlex.quote(str(folder / 'costs'))}"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {python} "$@"\nexec {python} {watch} {python} "$@"\n'
    )
    script.chmod(0o755)
    return script


def collect(fleet: Fleet, fits: dict[str, Fit]) -> None:
    """Until every job has ended; what one told is kept as soon as it is there."""
    told: set[str] = set()
    with fleet.client("viewer") as http:
        while len(told) < len(fits):
            for job in http.get("/v1/jobs", params={"limit": 1000}).raise_for_status().json()["jobs"]:
                if job["name"] not in fits or job["name"] in told:
                    continue
                if job["status"] == "completed":
                    keep(http, fleet.folder, job["name"], job["job_id"], job["artifact"])
                if job["status"] in ("completed", "failed", "cancelled"):
                    told.add(job["name"])
                    reason = f" ({job['reason']})" if job["reason"] else ""
                    print(
                        f"{len(told)}/{len(fits)} {job['name']} {job['status']}{reason}",
                        file=sys.stderr,
                        flush=True,
                    )
            time.sleep(LOOK_SECONDS)


def keep(http: httpx.Client, folder: Path, name: str, job: str, artifact: str) -> None:
    place = folder / "results" / name
    if (place / "cost.json").exists():
        return
    place.mkdir(exist_ok=True)
    bundle = folder / "bundle"
    bundle.write_bytes(http.get(f"/v1/model/{artifact}").raise_for_status().content)
    with zstd.open(bundle, "rb") as archive:
        for member, _, blocks in read_archive(archive):
            if member in ("predictions.parquet", "metrics.json"):
                (place / member).write_bytes(b"".join(blocks))
    (place / "cost.json").write_text(json.dumps(costs(folder / "costs" / f"{job}.jsonl")._asdict()))


def figures(folder: Path, cell: Cell, fits: list[Fit]) -> Iterator[Figure]:
    found = cells.result(folder / "results", cell, fits)
    if found is None:
        return
    name = "_".join(map(str, cell))
    unit = f"accuracy, 95 % in [{found.low:.3f}, {found.high:.3f}] over {found.unit}s"
    yield Figure(f"{name}_accuracy", found.accuracy, unit, PUBLISHED.get((cell.split, cell.mode)))
    yield Figure(f"{name}_macro_f1", found.macro_f1, "macro-F1")
    yield Figure(f"{name}_cpu_s", found.cpu_seconds, "CPU s a fit, its process from start to end")
    yield Figure(f"{name}_peak_rss_mib", found.peak_rss_mib, "MiB")


def reference(folder: Path | None, place: Place, name: str) -> Iterator[Figure]:
    """MiniRocket and Hydra as aeon has them: the same folds, windows and score, each fit a process of its own."""
    if not (AEON / "aeon").is_dir():
        print(f"aeon is not there; `{sys.executable} -m {INSTALL}` in {ROOT} brings it", file=sys.stderr)
        return
    folder = prepared(folder or place.new())
    wanted = [Cell("host", "oracle", "minirocket")] if place.quick else list(cells.references())
    for cell in wanted:
        fits = cell.fits[:1] if place.quick else cell.fits
        for fit in fits:
            target = folder / "results" / fit.name
            if (target / "cost.json").exists():
                continue
            target.mkdir(exist_ok=True)
            module = [sys.executable, "-m", "bench.rig.rocket", *cell[:3], ",".join(fit.train_hosts)]
            threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
            threads["PYTHONPATH"] = str(AEON)  # before the environment's own numpy, for this process alone
            code, cost = run(
                [*module, str(folder / "data"), str(target)], cwd=str(ROOT), env={**os.environ, **threads}
            )
            if code:
                raise RuntimeError(f"{fit.name} ended with {code}")
            (target / "cost.json").write_text(json.dumps(cost._asdict()))
        yield from figures(folder, cell, fits)


def archive(place: Place, name: str) -> Iterator[Figure]:
    """Two sets of the UEA archive that aeon brings, at their published split: each series is one window."""
    if not (AEON / "aeon").is_dir():
        print(f"aeon is not there; `{sys.executable} -m {INSTALL}` in {ROOT} brings it", file=sys.stderr)
        return
    settings = {"decimation": 1, "batch_size": 16}
    for title, length, epochs, aim in (("BasicMotions", 100, 60, 1.0), ("JapaneseVowels", 29, 40, 0.98)):
        folder, source = place.new_folder(), AEON / "aeon/datasets/data" / title / title
        files = [f"{source}_{part}.ts" for part in ("TRAIN", "TEST")]
        trainer = [sys.executable, "-m", "fleet_trainer"]
        subprocess.run(
            [*trainer, "convert", "ts", *files, "--out", str(folder)], stdout=sys.stderr, check=True
        )
        hyper = {
            **settings,
            "window_seconds": float(length),
            "stride_seconds": float(length),
            "epochs": epochs,
        }
        seconds, metrics = _by_hand(folder, {"model": "cnn", "hyper": hyper, "train_hosts": ["train"]})
        against = Figure("aim", aim, "accuracy")
        yield Figure(f"uea_{title}_cnn", metrics["metrics"]["accuracy"]["value"], "accuracy", against)
        yield Figure(f"uea_{title}_cnn_cpu_s", seconds, "CPU s")


def _by_hand(folder: Path, given: dict[str, object]) -> tuple[float, Any]:
    """One training without a coordinator: what it cost, and its metrics."""
    spec = {
        "schema": 1,
        "job_id": "0" * 16,
        "mode": "oracle",
        "split_recipe": "host",
        "seed": 0,
        "n_resamples": 1000,
    }
    (folder / "job.json").write_text(json.dumps(spec | given))
    told = ["--spec", str(folder / "job.json"), "--data", str(folder), "--out", str(folder / "out")]
    command = [sys.executable, "-m", "fleet_trainer", "run", *told]
    with (folder / "log").open("wb") as log:
        code, cost = run(command, stdout=log)
    if code:
        raise RuntimeError(f"{command} ended with {code}")
    return cost.cpu_seconds, json.loads((folder / "out/metrics.json").read_text())


def starting(place: Place, name: str) -> Iterator[Figure]:
    """CPU seconds from the process's start to its first step, told by its first word of progress."""
    folder = prepared(place.new())
    for model, aim in (("gbt", 2.5), ("mlp", 3.0), ("cnn", 3.0), ("lstm", 3.0), ("transformer", 3.0)):
        took = [_start(folder, model, number) for number in range(1 if place.quick else 5)]
        yield Figure(f"start_{model}_cpu_s", median(took), "CPU s", Figure("aim", aim, "CPU s"))


def _start(folder: Path, model: str, number: int) -> float:
    place = folder / f"{model}-{number}"
    place.mkdir()
    spec = {
        "schema": 1,
        "job_id": "0" * 16,
        "model": model,
        "mode": "oracle",
        "hyper": {},
        "split_recipe": "host",
    }
    spec |= {"train_hosts": list(cells.HOSTS[2:]), "seed": 0, "n_resamples": 1}
    (place / "job.json").write_text(json.dumps(spec))
    events = place / "events"
    os.mkfifo(events)
    told = {"FLEET_JOB_SPEC": place / "job.json", "FLEET_DATA": folder / "data", "FLEET_EVENTS": events}
    told |= {"FLEET_OUTPUT_DIR": place / "out"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet_trainer", "run"],
        env=environment() | {key: str(value) for key, value in told.items()},
        stdout=subprocess.DEVNULL,
    )
    waiting = os.open(
        events, os.O_RDWR
    )  # kept open at both ends: the trainer opens and closes it for every event
    try:
        said = b""
        while b'"progress"' not in said:
            said += os.read(waiting, 4096)
        return cpu_seconds(process.pid)
    finally:
        process.kill()
        process.wait()
        os.close(waiting)


def looping(place: Place, name: str) -> Iterator[Figure]:
    """The loop with everything it does beside the tensors' work, against that work alone."""
    for model in ("mlp", "cnn", "lstm"):
        told = load("looping", model, 2 if place.quick else 5)
        bare = Figure("the same steps, written out bare", told["bare"], "CPU s")
        yield Figure(f"loop_{model}_cpu_s", told["loop"], "CPU s", bare)
