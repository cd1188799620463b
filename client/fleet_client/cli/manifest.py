"""Commands about the manifest: plan, reload, check."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from fleet_client.cli.output import SHORT, emit, print_json, print_text, table, word
from fleet_client.cli.progress import progress
from fleet_client.cli.session import CHANGES, FAILED, Json, Url, ask, fail, note
from fleet_client.errors import Conflict
from fleet_client.text import counted, printable

if TYPE_CHECKING:
    from fleet_client.client import FleetClient
    from fleet_protocol.ids import Sha256
    from fleet_protocol.manifest import Manifest
    from fleet_protocol.plan import Plan, PlanEntry
    from fleet_protocol.problems import ManifestProblem

    Source = tuple[str | None, str | None, dict[str, Sha256] | None]

File = Annotated[
    Path | None,
    typer.Argument(help="The manifest; without one the coordinator reads its own.", show_default=False),
]
CheckedFile = Annotated[
    Path | None,
    typer.Argument(
        help="Default: /etc/fleet/training_manifest.toml, else ./training_manifest.toml.", show_default=False
    ),
]
MARKS = {
    "new": "+",
    "pending": " ",
    "running": ">",
    "trained": "=",
    "failed": "!",
    "cancelled": "x",
    "changed": "~",
    "removed": "-",
}
WAITING = ("pending", "claimed", "running")


def plan(
    file: File = None,
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 if applying it would change something.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """What a manifest would change, and where each of its jobs stands.

    Exit 1 if no known worker could ever run one of them.
    """
    source = source_of(file)
    answer = ask(url, lambda fleet: fleet.plan(*source))
    print_plan(answer, "would be applied", json=json)
    if any(entry.unsatisfiable for entry in answer.entries):
        raise SystemExit(FAILED)
    if exit_code and answer.changed:
        raise SystemExit(CHANGES)


def reload(file: File = None, *, url: Url = None, json: Json = False) -> None:
    """Apply a manifest: queue what is new, once.

    Data sets and sources that the coordinator lacks are pushed to it first.
    """
    source = source_of(file)
    folder = file.parent if file else Path()
    print_plan(ask(url, lambda fleet: applied(fleet, source, folder)), "was applied", json=json)


async def applied(fleet: FleetClient, source: Source, folder: Path) -> Plan:
    """The coordinator says what it lacks; with that it is asked again."""
    from fleet_protocol.errors import Code

    paths = {sha256: path for path, sha256 in (source[2] or {}).items()}
    try:
        return await fleet.reload(*source)
    except Conflict as error:
        lacking = [sha256 for sha256 in paths if any(item.key == sha256 for item in error.problem.errors)]
        if error.code != Code.BLOB_MISSING or not lacking:
            raise
    with progress() as told:
        for sha256 in lacking:
            await fleet.push(folder / paths[sha256], sha256, told(paths[sha256]))
    return await fleet.reload(*source)


def source_of(file: Path | None) -> Source:
    """A manifest's text, its name, and the digests of what it names; nothing for the coordinator's own file."""
    from fleet_protocol.manifest import ManifestError, contents, parse
    from fleet_protocol.plan import MAX_MANIFEST_CHARS

    if file is None:
        return None, None, None
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        fail(f"{file} is not UTF-8 text, so it is no manifest.")
    try:
        if len(text) > MAX_MANIFEST_CHARS:  # cannot even be asked about; other mistakes are the coordinator's
            parse(text, str(file))
        return text, str(file), contents(text, file.parent)
    except ManifestError as error:
        report(None, error.problems, json=False)
        raise SystemExit(FAILED) from None


def print_plan(plan: Plan, done: str, *, json: bool) -> None:
    """One line a job, then the counts and what changes."""
    if json:
        print_json(plan)
        return
    rows = [
        (
            Text(MARKS[entry.category], style=state.style),
            state,
            entry.job_id[:SHORT],
            entry.name,
            remark(entry),
        )
        for entry in plan.entries
        for state in [standing(entry)]
    ]
    if rows:
        emit(table(("mark", "state", "id", "name", "remark"), rows, fold=("name", "remark")))
    emit(f"{printable(plan.fleet)}: {tally(plan)}.", f"{printable(plan.file)} {changes(plan, done)}.")


def standing(entry: PlanEntry) -> Text:
    """Its category in words and colour; that nobody can take it outshines the category."""
    if entry.unsatisfiable:
        return Text(f"{entry.category}, unsatisfiable", style=word("unsatisfiable").style)
    return word(entry.category)


def remark(entry: PlanEntry) -> str:
    said = [entry.unsatisfiable] if entry.unsatisfiable else []
    if entry.replaces:
        keys = ", ".join(entry.differs)
        said.append(f"{entry.replaces[:SHORT]} -> {entry.job_id[:SHORT]}" + (f": {keys}" if keys else ""))
    if entry.other_code:
        said.append("by other code")
    if entry.scheduling_changed:
        said.append("scheduling changes")
    if entry.category == "removed":
        said.append(f"{entry.status} stays until cancelled" if entry.status in WAITING else f"{entry.status}")
    return "; ".join(said)


def tally(plan: Plan) -> str:
    counts = [
        f"{number} {category}" for category, number in Counter(e.category for e in plan.entries).items()
    ]
    for words, number in (
        ("trained by other code", sum(entry.other_code for entry in plan.entries)),
        ("unsatisfiable", sum(bool(entry.unsatisfiable) for entry in plan.entries)),
    ):
        counts += [f"{number} {words}"] if number else []
    return ", ".join(counts) or "no jobs"


def changes(plan: Plan, done: str) -> str:
    """What applying it does, or that it does nothing."""
    if not plan.changed:
        return "changes nothing"
    queued = sum(entry.category in ("new", "changed") for entry in plan.entries)
    rescheduled = sum(entry.scheduling_changed for entry in plan.entries)
    parts = [f"{counted(queued, 'job')} queued"] if queued else []
    parts += [f"{rescheduled} rescheduled"] if rescheduled else []
    return f"{done}: {', '.join(parts)}" if parts else done


def check(file: CheckedFile = None, *, json: Json = False) -> None:
    """Check a manifest without a coordinator.

    Prints each job with its id, or every problem.
    """
    from fleet_protocol.manifest import ManifestError, find_manifest, load

    path = find_manifest(file)
    try:
        manifest = load(path)
    except ManifestError as error:
        report(None, error.problems, json=json)
        raise SystemExit(FAILED) from None
    report(manifest, (), json=json)
    if not json:
        note(f"{path} is a good manifest: {counted(len(manifest.jobs), 'job')}.")


def report(manifest: Manifest | None, problems: tuple[ManifestProblem, ...], *, json: bool) -> None:
    jobs = manifest.jobs if manifest else ()
    if json:
        import json as codec

        said = {
            "ok": not problems,
            "jobs": [{"name": j.name, "job_id": j.job_id, "model": j.model, "mode": j.mode} for j in jobs],
            "problems": [
                {"file": p.file, "line": p.line, "key": p.key, "message": p.message} for p in problems
            ],
        }
        print_text(codec.dumps(said, indent=2))
        return
    if jobs:
        rows = [(job.job_id, job.name, job.model, job.mode) for job in jobs]
        emit(table(("ID", "NAME", "MODEL", "MODE"), rows, fold=("NAME",)))
    for problem in problems:
        note(printable(str(problem)))
    if problems:
        note(f"{counted(len(problems), 'problem')}: nothing would be queued from this manifest.")
