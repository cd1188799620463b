"""`fleet export`: bridges to other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_client.cli.output import print_text
from fleet_client.cli.session import Jobs, Url, ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_client.client import FleetClient
    from fleet_client.export import Run

app = typer.Typer(no_args_is_help=True, help="Curves, results and settings for TensorBoard or MLflow.")


@app.command()
def tensorboard(
    jobs: Jobs,
    *,
    out: Annotated[Path, typer.Option(help="The folder to point `tensorboard --logdir` at.")],
    url: Url = None,
) -> None:
    """Write an event file for each job; again replaces it."""
    from fleet_client.export_tensorboard import write

    for run in ask(url, lambda fleet: gathered(fleet, jobs)):
        print_text(str(write(run, out)))


@app.command()
def mlflow(
    jobs: Jobs,
    *,
    to: Annotated[
        str,
        typer.Option(envvar="MLFLOW_TRACKING_URI", help="The tracking server's address.", show_default=False),
    ],
    url: Url = None,
) -> None:
    """Send each job as a run to an MLflow tracking server; a run that is there already is not doubled."""
    from fleet_client.export_mlflow import Tracking, all_ended

    async def question(fleet: FleetClient) -> None:
        name, runs = (await fleet.manifest()).fleet, await gathered(fleet, jobs)
        all_ended(runs)
        async with Tracking(to) as tracking:
            experiment = await tracking.experiment(name)
            for run in runs:
                made = await tracking.export(experiment, run)
                print_text(f"{tracking.target.url}/#/experiments/{experiment}/runs/{made}")

    ask(url, question)


async def gathered(fleet: FleetClient, refs: Sequence[str]) -> list[Run]:
    """All of them, before anything is written."""
    from fleet_client.export import run_of

    found = {job.job_id: job for job in [await fleet.job(ref) for ref in refs]}
    return [run_of(job, await fleet.metrics(job.job_id, whole=True)) for job in found.values()]
