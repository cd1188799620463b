"""`fleet compare`: jobs side by side."""

from __future__ import annotations

from datetime import UTC, datetime
from string import ascii_uppercase
from typing import TYPE_CHECKING

from fleet_client.cli.output import SHORT, emit, facts, heading, print_text, table, word
from fleet_client.cli.session import USAGE, Jobs, Json, Url, ask, fail
from fleet_client.text import cut, figure, one_line, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_client.client import FleetClient
    from fleet_client.compare import Difference
    from fleet_protocol.jobs import JobDetail

VALUE_CHARS = 60
CAUTION = "Intervals that overlap prove no two jobs equal, and another seed may move a figure, too."


def compare(
    jobs: Jobs,
    *,
    url: Url = None,
    json: Json = False,
) -> None:
    """Jobs side by side: what differs in them, how well they did, and what they cost."""
    if not 2 <= len(jobs) <= len(ascii_uppercase):
        fail(f"compare takes 2 to {len(ascii_uppercase)} jobs.", code=USAGE)

    async def question(fleet: FleetClient) -> tuple[list[JobDetail], list[dict[str, object]]]:
        found = [await fleet.job(ref) for ref in jobs]
        made = {(one.job_id, one.sha256): one.provenance for one in (await fleet.artifacts()).models}
        by = [made.get((one.job_id, one.artifact)) if one.artifact else None for one in found]
        return found, [{f"made by {key}": value for key, value in (row or {}).items()} for row in by]

    found, makers = ask(url, question)
    if len({one.job_id for one in found}) < len(found):
        fail("one job is named twice.", code=USAGE)
    if json:
        print_text(compared_json(found, makers))
    else:
        print_compared(found, makers)


def print_compared(jobs: Sequence[JobDetail], makers: Sequence[dict[str, object]]) -> None:
    from fleet_client.compare import differences, identity, same_artifacts, standings, trained_for

    now = datetime.now(UTC)
    rows = [
        (
            letter,
            job.job_id[:SHORT],
            job.name,
            word(job.status),
            job.worker or "",
            job.attempts,
            span(trained_for(job, now)),
            (job.artifact or "")[:SHORT],
        )
        for letter, job in zip(ascii_uppercase, jobs, strict=False)
    ]
    headings = ("", "ID", "NAME", "STATUS", "WORKER", "TRIES", "RAN", "ARTIFACT")
    emit(table(headings, rows, fold=("NAME", "WORKER")))
    if (same := same_artifacts(jobs)) is not None:
        emit("", "The artifacts are equal." if same else "The artifacts differ.")
    for title, found in (
        ("What they are", differences([identity(job) for job in jobs])),
        ("What made them", differences(makers) if all(makers) else []),
    ):
        if found:
            emit(heading(title), facts((one_line(one.field), grouped(one)) for one in found))
    told = standings(jobs)
    if told:
        lines = [
            (
                one.metric,
                ascii_uppercase[one.job],
                figure(one.figure),
                "" if one.difference is None else f"{one.difference:+z.3f}",
                one.verdict,
            )
            for one in told
            if one.figure is not None
        ]
        emit("", table(("METRIC", "", "VALUE", "FROM A", ""), lines, fold=("METRIC", "")), "", CAUTION)


def grouped(one: Difference) -> str:
    """`0.1: A, C; 0.01: B`; cut where that leaves the values apart."""
    holders: dict[str, list[str]] = {}
    for letter, value in zip(ascii_uppercase, one.values, strict=False):
        holders.setdefault(value, []).append(letter)
    short = {cut(value, VALUE_CHARS): who for value, who in holders.items()}
    told = short if len(short) == len(holders) else holders
    return "; ".join(f"{value}: {', '.join(who)}" for value, who in told.items())


def compared_json(jobs: Sequence[JobDetail], makers: Sequence[dict[str, object]]) -> str:
    """`{"jobs", "differences", "makers", "metrics", "artifacts_equal"}`; differences name values by job's id."""
    import json

    from fleet_client.compare import differences, identity, same_artifacts, standings

    ids = [job.job_id for job in jobs]

    def told(rows: Sequence[dict[str, object]]) -> list[object]:
        return [
            {"field": one.field, "values": dict(zip(ids, one.values, strict=True))}
            for one in differences(rows)
        ]

    said = {
        "jobs": [job.model_dump(mode="json") for job in jobs],
        "differences": told([identity(job) for job in jobs]),
        "makers": told(makers),
        "metrics": [
            {
                "metric": one.metric,
                "job_id": ids[one.job],
                "difference": one.difference,
                "verdict": one.verdict,
            }
            | (one.figure.model_dump() if one.figure else {"value": None})
            for one in standings(jobs)
        ],
        "artifacts_equal": same_artifacts(jobs),
    }
    return json.dumps(said, indent=2)
