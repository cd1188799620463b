"""Drives the dashboard without a terminal: real keys at a fixed size, and the text that is on the screen."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from textual.pilot import Pilot

from fleet_tui.app import FleetTui
from fleet_tui.listings import job_of
from fleet_tui.replay import Recording
from fleet_tui.widgets.pager import Pager
from tests.tui.recorded import NOW, Recorded, gesture_lab

ROUNDS = 1500  # of the event loop, each a few milliseconds: a hang becomes a failure that shows the screen


@dataclass
class Dashboard:
    app: FleetTui
    pilot: Pilot[None]
    told: Recorded

    @property
    def lines(self) -> list[str]:
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def names(self) -> list[str]:
        """Names in the list, from top to bottom, as far as they are on the screen."""
        shown = self.app.board.rows
        first, last = shown.scroll_offset.y, shown.scroll_offset.y + shown.size.height - 1
        jobs, workers = self.app.store.jobs, self.app.store.workers
        ids = [job_of(entry) for entry in shown.entries[first:last] if isinstance(entry, str)]
        return [jobs[one].job.name if one in jobs else workers[one].name for one in ids]

    @property
    def at(self) -> str:
        """The name under the cursor, as the bar on the screen says."""
        line = next((line for line in self.lines if line.startswith("▌")), "")
        return next((name for name in self.names if f" {name} " in line), "")

    @property
    def pager(self) -> Pager:
        return self.app.board.query_one(Pager)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def until(self, holds: Callable[[], bool] | str) -> None:
        """Let the program go on until `holds`, or until that text is on the screen."""
        test = holds if callable(holds) else lambda: holds in self.text
        for _ in range(ROUNDS):
            if test():
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"it never came to that; the screen:\n{self.text}")


@asynccontextmanager
async def dashboard(told: Recorded, *, width: int = 120, height: int = 36) -> AsyncIterator[Dashboard]:
    app = FleetTui(told, clock=lambda: NOW)
    async with app.run_test(size=(width, height)) as pilot:
        yield Dashboard(app, pilot, told)


async def looked_at(shown: Dashboard) -> None:
    await shown.until("cnn-oracle")
    await shown.press("j")
    await shown.until("epoch 24/40")
    await shown.until("attempt 1 of 3")
    await shown.until("following ──")


async def recorded() -> tuple[str, list[str]]:
    """The lab with its first job looked at: what was written, and the screen it came to."""
    lab, file = gesture_lab(), io.StringIO()
    app = FleetTui(Recording(lab, file), clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        shown = Dashboard(app, pilot, lab)
        await looked_at(shown)
        return file.getvalue(), shown.lines


async def picture() -> str:
    """The README's picture, as SVG: a running job's log below the list."""
    async with dashboard(gesture_lab(), width=120, height=34) as shown:
        await looked_at(shown)
        return shown.app.export_screenshot(title="fleet-tui")
