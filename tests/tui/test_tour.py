"""Every view by keys: what is on the screen, and what each cell of it means, as stored; `test_screens` says how."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from tests.tui.driver import dashboard
from tests.tui.recorded import Recorded, job, snapshot, worker
from tests.tui.test_screens import SCREENS, same_as, writing
from tests.tui.tour import pictures, stops, tones, touring

IMAGES = Path(__file__).parents[2] / "docs" / "images"
BARS = str.maketrans(dict.fromkeys("▁▂▃▄▅▆▇█", " "))


def settled(lines: list[str]) -> str:
    """A scrollbar settles when it likes."""
    return "\n".join(line[:-1].rstrip() if line[-1:] in "▁▂▃▄▅▆▇█" else line for line in lines)


@pytest.mark.parametrize(
    ("width", "height", "theme"), [(120, 36, "dark"), (80, 24, "dark"), (80, 24, "light")]
)
async def test_every_view_is_as_it_was_in_any_theme(width: int, height: int, theme: str):
    """The light theme has the very same meanings in the same places."""
    drawn = []
    async with touring(width, height, theme) as shown:
        async for name in stops(shown):
            await shown.pilot.pause(0.15)
            meant = [line for line in tones(shown) if line.strip()]
            drawn += [f"=== {name}", settled(shown.lines), "--- meanings", *meant]
    file = SCREENS / f"tour-{width}x{height}.txt"
    text = "\n".join(line.rstrip() for line in "\n".join(drawn).splitlines()) + "\n"
    if writing() and theme == "dark":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


async def test_ten_thousand_jobs_and_none():
    told = Recorded()
    told.tell(snapshot(told.hold(*(job(f"sweep/seed={at}") for at in range(10_000))), [worker("pi")]))
    async with dashboard(told, width=80, height=24) as shown:
        await shown.until("10000 pending")
        await shown.press("G")
        await shown.until("sweep/seed=9999")
        await same_as("many-80x24", shown)
    told = Recorded()
    told.tell(snapshot([]))
    async with dashboard(told, width=80, height=24) as shown:
        await shown.until("fleet reload training_manifest.toml")
        await same_as("empty-80x24", shown)


def words(svg: str) -> str:
    text = unescape(re.sub(r"<style.*?</style>|<[^>]*>", "", svg, flags=re.DOTALL)).replace("\xa0", " ")
    return text.translate(BARS).replace(" ", "")


async def test_the_pictures_of_the_documentation_show_the_dashboard_as_it_is():
    async for name, drawn in pictures():
        stored = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
        assert words(stored) == words(drawn), f"{name}: python docs/images/dashboard.py"
