"""`fleet artifacts`: what was trained, fetched and proved."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_client.cli.output import SHORT, emit, facts, heading, print_json, print_text, table
from fleet_client.cli.session import FAILED, Json, Url, ask, fail, note
from fleet_client.text import ago, size

if TYPE_CHECKING:
    from fleet_client.artifacts import Verified
    from fleet_client.client import FleetClient
    from fleet_protocol.jobs import ArtifactView

app = typer.Typer(no_args_is_help=True, help="List, fetch and verify what was trained.")
LEAST_DIGITS = 8


@app.command("list")
def list_artifacts(*, url: Url = None, json: Json = False) -> None:
    """Every artifact that was uploaded, the newest first."""
    page = ask(url, lambda fleet: fleet.artifacts())
    if json:
        print_json(page)
        return
    now = datetime.now(UTC)
    rows = [
        (
            one.sha256[:12],
            one.job_id[:SHORT],
            f"{one.model} {one.mode}",
            one.worker,
            size(one.size_bytes),
            ago(one.uploaded_at, now),
        )
        for one in page.models
    ]
    headings = ("ARTIFACT", "JOB", "MODEL", "WORKER", "SIZE", "UPLOADED")
    emit(table(headings, rows, fold=("WORKER",)) if rows else "There are no artifacts yet.")


@app.command()
def get(
    ref: Annotated[str, typer.Argument(help="A job, or an artifact's SHA-256 or 8 digits or more of it.")],
    *,
    out: Annotated[Path, typer.Option(help="The folder to put it into.")] = Path(),
    unpacked: Annotated[bool, typer.Option("--unpack", help="Also unpack it, beside the file.")] = False,
    url: Url = None,
) -> None:
    """Fetch an artifact and, beside it, what is known of its origin; goes on where an earlier fetch ended."""
    from fleet_client.artifacts import certificate_of, fetch, file_name, unpack
    from fleet_client.cli.progress import progress
    from fleet_protocol.artifacts import Certificate

    out.mkdir(parents=True, exist_ok=True)

    async def question(fleet: FleetClient) -> Path:
        artifact = await wanted(fleet, ref)
        target = out / file_name(artifact)
        with progress() as begin:
            await fetch(fleet, artifact, target, begin(target.name))
        detail, fleets = await fleet.job(artifact.job_id), await fleet.manifest()
        told = Certificate(fleet=fleets.fleet, artifact=artifact, spec=detail.spec)
        certificate_of(target).write_text(told.model_dump_json(indent=2) + "\n", "utf-8")
        return target

    target = ask(url, question)
    print_text(str(target))
    if unpacked:
        folder = target.with_name(target.name.removesuffix(".tar.zst"))
        unpack(target, folder)
        print_text(str(folder))


async def wanted(fleet: FleetClient, ref: str) -> ArtifactView:
    """The artifact of that digest, else the one that the job has."""
    uploads = (await fleet.artifacts()).models
    if len(ref) >= LEAST_DIGITS and (
        found := {one.sha256: one for one in uploads if one.sha256.startswith(ref)}
    ):
        if len(found) > 1:
            fail(f"{len(found)} artifacts begin with {ref}; give more of it.")
        return next(iter(found.values()))
    job = await fleet.job(ref)
    mine = [one for one in uploads if one.job_id == job.job_id and one.sha256 == job.artifact]
    if not mine:
        fail(f"{job.name} is {job.status} and has no artifact.", f"Next: fleet explain {job.job_id[:SHORT]}")
    return mine[0]


@app.command()
def verify(
    file: Annotated[
        Path, typer.Argument(help="A bundle.tar.zst, fetched or in a coordinator's data folder.")
    ],
    *,
    json: Json = False,
) -> None:
    """Prove a file's digest and content and say who made it from what, without the coordinator."""
    from fleet_client.artifacts import verify as verified

    found = verified(file)
    if json:
        print_text(verified_json(found))
    else:
        print_verified(found)
    for problem in found.problems:
        note(f"fleet: {file}: {problem}")
    if found.problems:
        raise SystemExit(FAILED)


def print_verified(found: Verified) -> None:
    emit(facts([("SHA-256", found.sha256), ("Size", size(found.size_bytes)), *origin(found)]))
    if found.files:
        rows = [(one.name, size(one.size_bytes), one.sha256[:12]) for one in found.files]
        emit(heading("Files"), table(("NAME", "SIZE", "SHA-256"), rows, fold=("NAME",)))


def origin(found: Verified) -> list[tuple[str, str | None]]:
    told = found.certificate
    if told is None:
        rows = [(f"{one.get('job')} ({one.get('job_id')})", one.get("worker")) for one in found.uploads]
        said = "; ".join(f"{job} by {worker}" for job, worker in rows)
        return [("Trained for", said or "unknown: nothing beside the file tells")]
    made = told.artifact.provenance or {}
    code = ", ".join(
        f"{key} {made[key]}" for key in ("trainer", "git_commit", "torch", "python") if made.get(key)
    )
    data = [f"{key} {sha256[:12]}" for key, sha256 in told.digests.items()]
    return [
        ("Trained for", f"{told.spec.name} ({told.spec.job_id}) of {told.fleet}"),
        ("By", f"{told.artifact.worker}, attempt {told.artifact.attempt}"),
        ("Code", code or "not told"),
        ("Data", ", ".join(data) or "the worker's own, of no recorded digest"),
    ]


def verified_json(found: Verified) -> str:
    """The fields of what was found; `ok` where nothing is wrong."""
    import json

    certificate = found.certificate and found.certificate.model_dump(mode="json")
    said = {
        "ok": not found.problems,
        "sha256": found.sha256,
        "size_bytes": found.size_bytes,
        "files": [asdict(one) for one in found.files],
        "certificate": certificate,
        "uploads": found.uploads,
        "problems": found.problems,
    }
    return json.dumps(said, indent=2)
