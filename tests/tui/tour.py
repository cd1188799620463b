"""Through every view of one fleet, by keys: for the pictures of the documentation, and to be compared as text."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import exp, sin

from rich.color import Color
from rich.style import Style

from fleet_protocol.events import LiveFrame
from fleet_protocol.metrics import JobMetrics
from fleet_protocol.workers import Gauges, GpuGauge
from fleet_tui.app import FleetTui
from fleet_tui.palette import look
from fleet_tui.settings import Settings
from tests.tui.driver import Dashboard, picture
from tests.tui.recorded import NOW, Recorded, attempt_of, events, gesture_lab, job, macro_f1, worker

STOPS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("jobs", ("j",), "epoch 24/40"),
    ("log", ("enter",), "f follow"),
    ("why", ("escape", "escape", "j", "j", "j"), "needs CUDA with 24 GiB; has no GPU"),
    ("typing", ("/", *"state:compl"), "keep it"),
    ("confirm", ("escape", "g", "x"), "Cancel this job?"),
    ("marked", ("escape", "space", "space", "space"), "+3"),
    ("metrics", ("4",), "0.373 at step 39"),
    ("failures", ("1", "backslash", "2"), "raise ValueError"),
    ("workers", ("3", "j"), "RTX 3060"),
    ("events", ("5",), "completed"),
    ("help", ("question_mark",), "Keys"),
)
"""A name, the keys that lead on from the stop before, and what is then on the screen."""


WORKERS = (worker("workstation", number=1), worker("laptop", number=2))


def busy_lab() -> Recorded:
    """The lab of the README, with curves, load and a history."""
    told = gesture_lab()
    running = [row for row in told.jobs.values() if row.status == "running"]
    for at, row in enumerate(running):
        points = [
            2.2 * exp(-step / (9 + 4 * at)) + 0.16 + 0.04 * sin(step * (at + 1.7))
            for step in range(24 + 8 * at)
        ]
        readings = tuple((step, value, 4.0 * step) for step, value in enumerate(points))
        told.curves[row.job_id] = JobMetrics(
            job_id=row.job_id, attempt=attempt_of(row.name), series={"loss": readings}
        )
    for step in range(40):
        load: dict[str, Gauges] = {
            machine.worker: Gauges(
                cpu_pct=35 + 30 * sin(step / 4 + at),
                ram_used_gib=9.0 + at + step / 20,
                gpus=(GpuGauge(busy_pct=80 + 15 * sin(step / 3), vram_used_gib=8.1 + step / 40),) * (at == 0),
            )
            for at, machine in enumerate(WORKERS)
        }
        told.tell(LiveFrame(server_time=NOW, gauges=load))
    told.tell(
        events(
            job("cnn-realistic", "completed", worker="laptop", metrics=macro_f1(0.917, 0.881, 0.944)),
            first=101,
        )
    )
    return told


@asynccontextmanager
async def touring(
    width: int, height: int, theme: str = "dark", *, ascii_only: bool = False
) -> AsyncIterator[Dashboard]:
    told = busy_lab()
    app = FleetTui(told, clock=lambda: NOW, settings=Settings(theme=theme, ascii=ascii_only))
    async with app.run_test(size=(width, height)) as pilot:
        shown = Dashboard(app, pilot, told)
        await shown.until("cnn-oracle")
        yield shown


async def stops(shown: Dashboard) -> AsyncIterator[str]:
    for name, keys, words in STOPS:
        await shown.press(*keys)
        await shown.until(words)
        yield name


TONES = {"dim": "-", "strong": "S", "accent": "A", "good": "G", "bad": "B", "warn": "W", "rule": "_"}


def tones(shown: Dashboard) -> list[str]:
    """A letter for what each cell means, whatever the theme; a line's blanks have none."""
    meanings = look(shown.app).tones  # type: ignore[arg-type]  # an App of any result
    names = {style.color: TONES[tone] for tone, style in meanings.items() if tone in TONES}
    strips = shown.app.screen._compositor.render_strips()
    return ["".join(_letters(part.text, part.style, names) for part in strip).rstrip() for strip in strips]


def _letters(text: str, style: Style | None, names: dict[Color | None, str]) -> str:
    letter = names.get(style.color if style else None, ".")
    return "".join(" " if glyph == " " else letter for glyph in text)


DRAWN = ("log", "why", "metrics", "failures", "workers", "events")


async def pictures() -> AsyncIterator[tuple[str, str]]:
    """Names and SVGs of the documentation's pictures."""
    yield "dashboard", without_fonts(await picture())
    async with touring(120, 34) as shown:
        async for name in stops(shown):
            if name in DRAWN:
                await shown.pilot.pause(0.2)
                yield name, without_fonts(shown.app.export_screenshot(title="fleet-tui"))


def without_fonts(svg: str) -> str:
    """Textual names fonts on a far server, which a page must not fetch; the family that follows them will do."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
