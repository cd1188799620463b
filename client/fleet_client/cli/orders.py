"""Commands that change jobs or workers: cancel, requeue, accept-result, drain, resume."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from fleet_client.cli.completion import completing_jobs
from fleet_client.cli.manifest import source_of
from fleet_client.cli.output import print_json
from fleet_client.cli.session import FAILED, USAGE, Host, Job, Json, Url, ask, described, fail, note
from fleet_client.errors import Refused
from fleet_client.text import counted, one_line

if TYPE_CHECKING:
    from fleet_client.client import FleetClient
    from fleet_protocol.jobs import JobView
    from fleet_protocol.workers import WorkerView

    Order = Callable[[FleetClient, JobView], Awaitable[JobView]]

Ended = completing_jobs("failed", "cancelled", "completed")
Open = completing_jobs("pending", "claimed", "running")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show which jobs are meant.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even for several jobs.")]
Reason = Annotated[str, typer.Option(help="Kept in the history.")]


def cancel(
    jobs: Annotated[
        list[str],
        typer.Argument(
            help="Ids, unique beginnings of ids, exact names; or - for standard input.", autocompletion=Open
        ),
    ],
    *,
    reason: Reason = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Take jobs out of the queue, or stop them where they run."""
    order: Order | None = None if dry_run else lambda fleet, job: fleet.cancel(job.job_id, reason)
    report(carried_out("cancel", named(jobs), order, yes=yes, url=url), json=json)


def requeue(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(
            help="As for cancel, - too; with --other-code at most one manifest.", autocompletion=Ended
        ),
    ] = None,
    *,
    again: Annotated[bool, typer.Option("--again", help="Also completed jobs: train them anew.")] = False,
    other_code: Annotated[
        bool, typer.Option("--other-code", help="Every job that the plan marks as trained by other code.")
    ] = False,
    reason: Reason = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Queue failed or cancelled jobs again; with --again or --other-code completed ones too."""
    refs = of_other_code(jobs or [], url) if other_code else named(jobs or [])
    order: Order | None = (
        None if dry_run else lambda fleet, job: fleet.requeue(job.job_id, reason, again or other_code)
    )
    if not refs and not other_code:
        fail("requeue which jobs?", "Name some, or say --other-code.", code=USAGE)
    if not refs:
        note("No job of the manifest was trained by other code.")
    done = carried_out(
        "training anew" if other_code else "requeue",
        refs,
        order,
        yes=yes,
        url=url,
        unasked=0 if other_code else 1,
    )
    report(done, json=json)


def named(refs: list[str]) -> list[str]:
    """`-` stands for standard input: the first word of each line."""
    if refs != ["-"]:
        return refs
    found = [words[0] for line in sys.stdin if (words := line.split())]
    if not found:
        fail("standard input names no job.", "Give an id or a name in each line.", code=USAGE)
    return found


def of_other_code(files: list[str], url: str | None) -> list[str]:
    """The ids that the plan of a manifest, or of the coordinator's own, marks as trained by other code."""
    if len(files) > 1:
        fail("--other-code takes one manifest at most.", code=USAGE)
    source = source_of(Path(files[0]) if files else None)
    plan = ask(url, lambda fleet: fleet.plan(*source))
    return [entry.job_id for entry in plan.entries if entry.other_code]


def accept_result(
    job: Job,
    *,
    attempt: Annotated[
        UUID | None,
        typer.Option(help="Its id, from `fleet show --json`; default: the last that brought any."),
    ] = None,
    reason: Reason = "",
    yes: Yes = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Complete a job with the artifact of an attempt that had lost it."""
    from fleet_protocol.ids import AttemptId

    named = AttemptId(str(attempt)) if attempt else None
    done = carried_out(
        "accepting the late result",
        [job],
        lambda fleet, found: fleet.accept_result(found.job_id, named, reason),
        yes=yes,
        url=url,
        unasked=0,
    )
    report(done, json=json)


def drain(host: Host, *, reason: Reason = "", url: Url = None, json: Json = False) -> None:
    """Hand no new jobs to a worker; what it trains goes on."""
    tell(ask(url, lambda fleet: fleet.drain(host, reason)), json=json)


def resume(host: Host, *, reason: Reason = "", url: Url = None, json: Json = False) -> None:
    """Hand jobs to a drained worker again."""
    tell(ask(url, lambda fleet: fleet.resume(host, reason)), json=json)


def tell(worker: WorkerView, *, json: bool) -> None:
    if json:
        print_json(worker)
        return
    running = counted(len(worker.running), "job")
    state = f"draining, {running} to go" if worker.draining else "takes new jobs"
    typer.echo(f"{one_line(worker.name)}  {state}" + ("" if worker.live else ", once it is back"))


def carried_out(
    verb: str, refs: list[str], order: Order | None, *, yes: bool, url: str | None, unasked: int = 1
) -> list[JobView | Refused]:
    """Every job is looked up before the first is touched, so that a slip of the pen changes nothing.

    More than `unasked` jobs need a yes; without an order they are only shown.
    """

    async def session(fleet: FleetClient) -> list[JobView | Refused]:
        found = {job.job_id: job for job in [await fleet.job(ref) for ref in refs]}
        if order is None:
            note(f"fleet: {verb} of {counted(len(found), 'job')}; nothing was changed")
            return list(found.values())
        if len(found) > unasked and not yes:
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
    for job in jobs:
        note(f"  {job.job_id}  {one_line(job.name)}  {job.status}")
    which = counted(len(jobs), "job")
    if not sys.stdin.isatty():
        fail(f"{verb} of {which} needs a yes.", "Say --yes.", code=USAGE)
    if not typer.confirm(f"{verb} of {which}?", err=True):
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
