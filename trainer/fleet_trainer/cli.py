"""`fleet-train`: run a job, use its artifact, prepare data. Numerical libraries load only when needed."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from fleet_trainer import TRAINER_VERSION, job
from fleet_trainer.errors import SpecRefused, TrainerError
from fleet_trainer.hyper import NetHyper
from fleet_trainer.models import schemas
from fleet_trainer.ranks import run_ranks, wanted
from fleet_trainer.spec import read_spec

if TYPE_CHECKING:
    from fleet_trainer.bundle import Bundle

Place = Path | None
Artifact = Annotated[Path, typer.Argument(help="a bundle.tar.zst, or a folder of an artifact's files")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
convert_app = typer.Typer(help="Write a known data set as Parquet, once.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleet-train {TRAINER_VERSION}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Train one of fleet's models on labelled multivariate time series."""


@app.command()
def run(
    spec: Annotated[Place, typer.Option(envvar="FLEET_JOB_SPEC", help="the job as JSON")] = None,
    data: Annotated[Place, typer.Option(envvar="FLEET_DATA", help="folder of data.parquet")] = None,
    out: Annotated[Place, typer.Option(envvar="FLEET_OUTPUT_DIR", help="gets the artifact")] = None,
    checkpoints: Annotated[Place, typer.Option(envvar="FLEET_CHECKPOINT_DIR", help="to resume from")] = None,
) -> None:
    """Train one job and write its artifact; fleet's agent sets all of this by environment."""
    given = {
        "FLEET_JOB_SPEC": spec,
        "FLEET_DATA": data,
        "FLEET_OUTPUT_DIR": out,
        "FLEET_CHECKPOINT_DIR": checkpoints,
    }
    os.environ.update({name: str(path) for name, path in given.items() if path is not None})
    if spec is None or out is None:
        missing = "--spec (FLEET_JOB_SPEC)" if spec is None else "--out (FLEET_OUTPUT_DIR)"
        raise SpecRefused(f"{missing} is missing; see `fleet-train run --help`")
    current = job()
    parsed = read_spec(spec)
    hyper = parsed.settings()
    if isinstance(hyper, NetHyper) and (count := wanted(os.environ)) > 1:
        raise typer.Exit(run_ranks([sys.executable, "-m", "fleet_trainer", "run"], count))
    _fix_bits(hyper.threads)

    from fleet_trainer.run import run

    run(current, parsed, hyper)


@app.command()
def evaluate(
    bundle: Artifact,
    data: Annotated[
        Place, typer.Option(envvar="FLEET_DATA", help="folder of the data.parquet of its training")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one object, metrics.json within it")] = False,
) -> None:
    """Test an artifact again: exit 0 if its metrics.json tells the same figures, 1 if not."""
    found = _artifact(bundle)

    from fleet_trainer.evaluate import reproduce

    evaluation, differences = reproduce(found, job(), data)
    if as_json:
        told = [difference._asdict() for difference in differences]
        typer.echo(json.dumps({"agrees": not told, "differences": told, "evaluation": evaluation}, indent=1))
    else:
        for name, metric in evaluation["metrics"].items():
            typer.echo(f"{name} {metric['value']:.4f}  [{metric['low']:.4f}, {metric['high']:.4f}]")
        calibration = evaluation["calibration"]
        typer.echo(f"ece {calibration['ece']:.4f}\nbrier {calibration['brier']:.4f}")
        for figure, here, there in differences:
            typer.echo(f"{figure}: {here} here, {there} in the artifact")
        typer.echo("its metrics.json does not agree" if differences else "its metrics.json agrees")
    if differences:
        raise typer.Exit(1)


@app.command()
def predict(
    bundle: Artifact,
    data: Annotated[Place, typer.Option(envvar="FLEET_DATA", help="folder of data.parquet")] = None,
    *,
    out: Annotated[Path, typer.Option(help="Parquet file to write, a row for each window")],
) -> None:
    """Tell the classes of data with or without labels, which are not looked at."""
    found = _artifact(bundle)

    from fleet_trainer.evaluate import predict

    typer.echo(f"{predict(found, job(), data, out)} windows in {out}")


def _artifact(path: Path) -> Bundle:
    """Read before any numerical library is there, since it says how many threads fix its bits."""
    from fleet_trainer.bundle import read_bundle

    found = read_bundle(path)
    _fix_bits(found.hyper.threads)
    if found.trained.trainer != TRAINER_VERSION:
        typer.echo(
            f"fleet-train: version {found.trained.trainer} of the trainer made this artifact; this is"
            f" {TRAINER_VERSION} and may tell something else",
            err=True,
        )
    return found


def _fix_bits(threads: int) -> None:
    """Before any numerical library starts its pool: two jobs on one machine must not fight for cores."""
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[pool] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA is deterministic only with it


@convert_app.command()
def watch(
    out: Annotated[Path, typer.Option(help="folder to write data.parquet and dataset.json to")],
) -> None:
    """The smartwatch set of the package seglearn: 140 recordings of 10 people doing 7 exercises."""
    from fleet_trainer.watch import convert

    typer.echo(convert(out))


@convert_app.command()
def ts(
    train: Annotated[Path, typer.Argument(help="the file to train on; its recordings get the host `train`")],
    test: Annotated[Path | None, typer.Argument(help="the file to test on: the host `test`")] = None,
    *,
    out: Annotated[Path, typer.Option(help="folder to write data.parquet and dataset.json to")],
    rate_hz: Annotated[float, typer.Option(min=1e-9, help="samples per second; the format does not say")] = 1,
) -> None:
    """A UCR or UEA set in the `.ts` format, with its published split."""
    from fleet_trainer.ts import convert

    typer.echo(convert(train, test, out, rate_hz))


@app.command("schemas")
def print_schemas() -> None:
    """JSON Schemas of all models' hyper-parameters, as one object."""
    typer.echo(json.dumps(schemas(), sort_keys=True, indent=1))


@app.command()
def version() -> None:
    """The trainer's version; it changes whenever the same job would give other bits."""
    typer.echo(TRAINER_VERSION)


def main() -> NoReturn:
    _speak_utf8()
    try:
        app(prog_name="fleet-train")
    except TrainerError as error:
        _leave(str(error), error.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _leave(f"{place}{error.strerror or error}", TrainerError.exit_code)
    except MemoryError:
        _leave(
            "out of memory; lower hyper.batch_size, or ask for more with min_ram_gib", TrainerError.exit_code
        )
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package.startswith("fleet_"):
            raise
        _leave(
            f"{package} is not installed for {sys.executable}; install fleet's train extra",
            TrainerError.exit_code,
        )
    sys.exit(0)


def _speak_utf8() -> None:
    """A log is UTF-8 on every platform, and a name no console can show must not end a training."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def _leave(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(f"fleet-train: {message}\n")
    sys.exit(code)
