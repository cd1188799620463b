"""`fleet metrics`: a job's curves, drawn on the terminal or as a table for other programs."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn
from uuid import UUID

import typer
from rich.console import Group
from rich.text import Text

from fleet_client.cli.output import console, emit, print_json, print_text
from fleet_client.cli.session import USAGE, Job, Json, Url, ask, fail, note
from fleet_client.errors import Unavailable, Unreachable
from fleet_client.plot import ASCII, FINE, Charset, plot, short
from fleet_client.text import counted, cut, how_far, one_line

if TYPE_CHECKING:
    from fleet_client.client import FleetClient
    from fleet_client.plot import Point
    from fleet_protocol.jobs import JobDetail
    from fleet_protocol.metrics import JobMetrics

PLOTTED = 6
"""Curves that are drawn where none is named; more do not fit a screen."""
ROWS, LEAST_ROWS = 12, 6
DRAWN_POINTS = 2000
LOOK_SECONDS = 2.0
LINE_COLUMNS = 100  # of a plot that is not for a terminal


def metrics(
    job: Job,
    *,
    name: Annotated[list[str] | None, typer.Option(help="Only this curve; may be repeated.")] = None,
    attempt: Annotated[UUID | None, typer.Option(help="An attempt's id; the newest without it.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Also of the attempts before, where it goes on from them.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw again while it trains.")] = False,
    table: Annotated[
        bool, typer.Option("--csv", help="name,step,value,unix_seconds for each point.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """What a job's training told of itself: loss, accuracy and the like, over its steps."""
    if watch and (json or table or not sys.stdout.isatty()):
        fail(
            "--watch draws on a terminal.", "Without it, --csv and --json give all that is there.", code=USAGE
        )
    wanted, named = name or [], str(attempt) if attempt else None

    async def question(fleet: FleetClient) -> None:
        if watch:
            await watched(fleet, job, wanted, attempt=named, whole=whole)
            return
        points = DRAWN_POINTS if not (json or table) else None
        told = await fleet.metrics(job, attempt=named, whole=whole, points=points)
        shown = only(told, wanted)
        if table:
            print_csv(shown)
        elif json:
            print_json(shown)
        else:
            emit(*drawing(shown, None, all_of=bool(wanted)))
        if (json or table) and sum(map(len, told.series.values())) < told.stored:
            note(
                f"Long curves are thinned; all {told.stored} points are in the coordinator's data folder, metrics/."
            )

    ask(url, question)


async def watched(
    fleet: FleetClient, job: str, names: list[str], *, attempt: str | None, whole: bool
) -> None:
    """Drawn again and again until nothing is trained any more; a coordinator that is away is waited for."""
    import asyncio

    from rich.live import Live

    with Live(console=console(), auto_refresh=False, vertical_overflow="ellipsis") as screen:
        while True:
            try:
                detail = await fleet.job(job)
                told = await fleet.metrics(job, attempt=attempt, whole=whole, points=DRAWN_POINTS)
            except (Unreachable, Unavailable) as error:
                screen.update(Text(f"{error} Trying again."), refresh=True)
            else:
                parts = drawing(only(told, names), detail, all_of=bool(names))
                screen.update(Group(*parts), refresh=True)
                if not detail.status.is_active:
                    return
            await asyncio.sleep(LOOK_SECONDS)


def only(told: JobMetrics, names: list[str]) -> JobMetrics:
    """The curves of these names; all without one."""
    for name in names:
        if name not in told.series:
            no_such_curve(name, told)
    series = {name: told.series[name] for name in names} if names else told.series
    return told.model_copy(update={"series": series})


def no_such_curve(name: str, told: JobMetrics) -> NoReturn:
    known = ", ".join(one_line(one) for one in list(told.series)[:20]) or "none yet"
    fail(f"the job has told no curve {name!r}; there are: {known}.")


def drawing(told: JobMetrics, detail: JobDetail | None, *, all_of: bool) -> list[Text | str]:
    """A plot below the other, each under its name and its last value."""
    if not told.series:
        return [
            "No metrics yet: a training tells them by `fleet_trainer`, or as lines of the file FLEET_EVENTS."
        ]
    out = console()
    width = out.width if out.is_terminal else LINE_COLUMNS
    shown = dict(list(told.series.items())[: None if all_of else PLOTTED])
    rows = max(min((out.height - 3) // len(shown) - 2, ROWS), LEAST_ROWS) if out.is_terminal else ROWS
    parts: list[Text | str] = []
    if detail is not None:
        parts.append(Text(f"{one_line(detail.name)}  {detail.status}  {how_far(detail.progress)}".rstrip()))
    for name, points in shown.items():
        parts += [headed(name, points, width), *plot(points, width, rows, charset()), ""]
    if left := len(told.series) - len(shown):
        parts.append(f"{counted(left, 'curve')} more; --name draws one of: {names_of(told, len(shown))}")
    return parts if parts[-1] else parts[:-1]


def headed(name: str, points: tuple[Point, ...], width: int) -> Text:
    known = [(value, step) for step, value, _ in points if value is not None]
    step, value, _ = points[-1]
    last = "no number" if value is None else short(value)
    text = f"  {last} at step {step}"
    if known:
        low, high = min(known), max(known)
        text += f"  (lowest {short(low[0])} at {low[1]}, highest {short(high[0])} at {high[1]})"
    title = Text(cut(one_line(name), width // 2), style="bold")
    return title.append(cut(text, max(width - len(title), 1)), style="not bold")


def names_of(told: JobMetrics, after: int) -> str:
    return cut(", ".join(one_line(name) for name in list(told.series)[after:]), 200)


def charset() -> Charset:
    """Braille, unless stdout cannot carry it."""
    try:
        "⣿┤".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return ASCII
    return FINE


def print_csv(told: JobMetrics) -> None:
    """Every point in the order told; no value where it was no number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("name", "step", "value", "unix_seconds"))
    for name, points in told.series.items():
        writer.writerows((name, step, "" if value is None else value, at) for step, value, at in points)
    print_text(buffer.getvalue().rstrip("\n"))
