"""`fleet-train`: run a job, prepare data, print the models' schemas. Numerical libraries load only when needed."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fleet_trainer import TRAINER_VERSION, job
from fleet_trainer.errors import SpecRefused, TrainerError
from fleet_trainer.models import schemas
from fleet_trainer.spec import read_spec

Place = Path | None

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
    # Before any numerical library starts its pool: two jobs on one machine must not fight for cores.
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[pool] = str(hyper.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA is deterministic only with it

    from fleet_trainer.run import run

    run(current, parsed, hyper)


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
