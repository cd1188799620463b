"""Commands about the manifest: plan, reload, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_client.cli.output import emit, print_json, print_text, table
from fleet_client.cli.session import FAILED, Json, Url, ask, fail, note
from fleet_client.text import counted, printable

if TYPE_CHECKING:
    from fleet_protocol.ids import Sha256
    from fleet_protocol.manifest import Manifest
    from fleet_protocol.plan import Plan, PlanEntry
    from fleet_protocol.problems import ManifestProblem

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


def plan(file: File = None, *, url: Url = None, json: Json = False) -> None:
    """What a manifest would change. Exit 1 if no known worker could ever run one of its jobs."""
    source = source_of(file)
    answer = ask(url, lambda fleet: fleet.plan(*source))
    if json:
        print_json(answer)
    else:
        print_plan(answer, "would be applied")
    if any(entry.unsatisfiable for entry in answer.entries):
        raise SystemExit(FAILED)


def reload(file: File = None, *, url: Url = None, json: Json = False) -> None:
    """Apply a manifest: queue what is new, once."""
    source = source_of(file)
    answer = ask(url, lambda fleet: fleet.reload(*source))
    if json:
        print_json(answer)
    else:
        print_plan(answer, "was applied")


def source_of(file: Path | None) -> tuple[str | None, str | None, dict[str, Sha256] | None]:
    """A manifest's text, its name, and the digests of what it names; nothing for the coordinator's own file."""
    from fleet_protocol.manifest import contents

    if file is None:
        return None, None, None
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        fail(f"{file} is not UTF-8 text, so it is no manifest.")
    return text, str(file), contents(text, file.parent)


def print_plan(plan: Plan, done: str) -> None:
    """One line a job, then the counts; jobs that are trained already only count."""
    shown = [entry for entry in plan.entries if entry.category != "trained" or entry.unsatisfiable]
    rows = [
        (MARKS[entry.category], entry.category, entry.job_id[:8], entry.name, remark(entry))
        for entry in shown
    ]
    if rows:
        emit(table(("mark", "category", "id", "name", "remark"), rows, fold=("name", "remark")))
    counts = {
        category: plan.count(category) for category in dict.fromkeys(one.category for one in plan.entries)
    }
    tally = ", ".join(f"{number} {category}" for category, number in counts.items())
    change = f"{plan.file} {done}" if plan.changed else f"{plan.file} changes nothing"
    emit(f"{printable(plan.fleet)}: {tally}. {printable(change)}.")


def remark(entry: PlanEntry) -> str:
    if entry.unsatisfiable:
        return entry.unsatisfiable
    return "what it asks of a worker changes" if entry.scheduling_changed else ""


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
