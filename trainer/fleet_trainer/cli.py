"""`fleet-train`: run a job, prepare data, print the models' schemas. Numerical libraries load only when needed."""

from __future__ import annotations

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

app = typer.Typer(
    help="Train one of fleet's models on labelled multivariate time series.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
convert_app = typer.Typer(help="Write a known data set as Parquet, once.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")


@app.command()
def run(
    spec: Annotated[Path | None, typer.Option(envvar="FLEET_JOB_SPEC", help="the job as JSON")] = None,
    data: Annotated[Path | None, typer.Option(envvar="FLEET_DATA", help="folder of data.parquet")] = None,
    out: Annotated[
        Path | None, typer.Option(envvar="FLEET_OUTPUT_DIR", help="where the artifact goes")
    ] = None,
) -> None:
    """Train one job and write its artifact. Other FLEET_* variables are as the agent sets them."""
    for name, value in (("FLEET_JOB_SPEC", spec), ("FLEET_DATA", data), ("FLEET_OUTPUT_DIR", out)):
        if value is not None:
            os.environ[name] = str(value)
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


@app.command("schemas")
def print_schemas() -> None:
    """JSON Schemas of all models' hyper-parameters, as one object."""
    typer.echo(json.dumps(schemas(), sort_keys=True, indent=1))


@app.command()
def version() -> None:
    """The trainer's version; it changes whenever the same job would give other bits."""
    typer.echo(TRAINER_VERSION)


def main() -> NoReturn:
    try:
        app(prog_name="fleet-train")
    except TrainerError as error:
        _leave(str(error), error.exit_code)
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


def _leave(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(f"fleet-train: {message}\n")
    sys.exit(code)
