"""`fleet report`: what was trained, as a page with pictures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_client.cli.output import print_text
from fleet_client.cli.session import Url, ask, note
from fleet_protocol.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_client.client import FleetClient
    from fleet_client.report import Told

CURVE_POINTS = 2000
NO_PICTURES = "Without pictures: pip install 'fleet-lab[report]' brings matplotlib, which draws them."


def report(
    *,
    out: Annotated[Path, typer.Option(help="The folder to write report.md and its pictures into.")] = Path(
        "report"
    ),
    status: Annotated[list[JobStatus] | None, typer.Option(help="Only these; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    mode: Annotated[str | None, typer.Option(help="realistic or oracle.")] = None,
    search: Annotated[str | None, typer.Option("--search", "-q", help="Text in the name or id.")] = None,
    url: Url = None,
) -> None:
    """Write what was trained, how well, at what cost, and what failed: Markdown, and pictures by matplotlib."""
    from fleet_client.report import Heading
    from fleet_client.report import report as page

    async def question(fleet: FleetClient) -> tuple[str, list[Told]]:
        jobs = await fleet.all_jobs(status=status or [], model=model, mode=mode, q=search, sort="name")
        return (await fleet.manifest()).fleet, await gathered(fleet, [job.job_id for job in jobs])

    name, told = ask(url, question)
    out.mkdir(parents=True, exist_ok=True)
    head = Heading(name, datetime.now(UTC), drawn(told, out))
    target = out / "report.md"
    target.write_text(page(told, head), "utf-8")
    print_text(str(target))


async def gathered(fleet: FleetClient, ids: Sequence[str]) -> list[Told]:
    """Each job with its curves and, where it completed, what its artifact says of its test."""
    from fleet_client.artifacts import evaluation
    from fleet_client.report import Told

    uploads = {one.sha256: one for one in (await fleet.artifacts()).models}
    found = []
    for one in ids:
        job = await fleet.job(one)
        curves = await fleet.metrics(one, whole=True, points=CURVE_POINTS) if job.attempts else None
        upload = uploads.get(job.artifact) if job.artifact else None
        tested = await evaluation(fleet, upload) if upload else None
        found.append(Told(job, curves.series if curves else {}, tested))
    return found


def drawn(told: Sequence[Told], out: Path) -> dict[str, tuple[str, ...]]:
    """Each completed job's pictures; none, and a word of advice, without matplotlib."""
    try:
        from fleet_client.report_pictures import draw
    except ModuleNotFoundError:
        note(NO_PICTURES)
        return {}
    return {one.job.job_id: draw(one, out) for one in told if one.job.status is JobStatus.COMPLETED}
