"""Commands that change jobs: cancel, requeue."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_client.cli.output import print_json
from fleet_client.cli.session import FAILED, USAGE, Json, Url, ask, described, fail, note
from fleet_client.errors import Refused
from fleet_client.text import one_line

if TYPE_CHECKING:
    from fleet_client.client import FleetClient
    from fleet_protocol.jobs import JobView

    Order = Callable[[FleetClient, JobView], Awaitable[JobView]]

Jobs = Annotated[list[str], typer.Argument(help="Ids, unique beginnings of ids, or exact names.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even for several jobs.")]
Reason = Annotated[str, typer.Option(help="Kept in the job's history.")]


def cancel(jobs: Jobs, *, reason: Reason = "", yes: Yes = False, url: Url = None, json: Json = False) -> None:
    """Take jobs out of the queue, or stop them where they run."""
    done = carried_out("cancel", jobs, lambda fleet, job: fleet.cancel(job.job_id, reason), yes=yes, url=url)
    report(done, json=json)


def requeue(
    jobs: Jobs, *, reason: Reason = "", yes: Yes = False, url: Url = None, json: Json = False
) -> None:
    """Queue failed or cancelled jobs again."""
    done = carried_out(
        "requeue", jobs, lambda fleet, job: fleet.requeue(job.job_id, reason), yes=yes, url=url
    )
    report(done, json=json)


def carried_out(
    verb: str, refs: list[str], order: Order, *, yes: bool, url: str | None
) -> list[JobView | Refused]:
    """Every job is looked up before the first is touched, so that a slip of the pen changes nothing."""

    async def session(fleet: FleetClient) -> list[JobView | Refused]:
        found = {job.job_id: job for job in [await fleet.job(ref) for ref in refs]}
        if len(found) > 1 and not yes:
            confirm(verb, list(found.values()))
        done: list[JobView | Refused] = []
        for job in found.values():
            try:
                done.append(await order(fleet, job))
            except Refused as error:
                done.append(error)
        return done

    return ask(url, session)


def confirm(verb: str, jobs: list[JobView]) -> None:
    if not sys.stdin.isatty():
        fail(f"{verb} of {len(jobs)} jobs needs a yes.", "Say --yes.", code=USAGE)
    for job in jobs:
        note(f"  {job.job_id}  {one_line(job.name)}  {job.status}")
    if not typer.confirm(f"{verb} these {len(jobs)} jobs?", err=True):
        fail("nothing was changed.")


def report(done: list[JobView | Refused], *, json: bool) -> None:
    """One line a job, or one JobPage; exit 1 if any was refused."""
    changed = [one for one in done if not isinstance(one, Refused)]
    if json:
        from fleet_protocol.jobs import JobPage

        print_json(JobPage(jobs=tuple(changed)))
    else:
        for job in changed:
            state = "being stopped" if job.cancel_requested and job.status.is_active else job.status
            typer.echo(f"{job.job_id}  {state}  {one_line(job.name)}")
    refusals = [one for one in done if isinstance(one, Refused)]
    for error in refusals:
        note(f"fleet: {one_line(described(error))}")
        if error.next:
            note(f"       Next: {one_line(error.next)}")
    if refusals:
        raise SystemExit(FAILED)
