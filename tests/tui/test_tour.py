"""Every view by keys: what is on the screen, and what each cell of it means, as stored; `test_screens` says how."""

from __future__ import annotations

import re
from contextlib import suppress
from html import unescape
from pathlib import Path

import pytest

from tests.tui.driver import Dashboard, dashboard, picture
from tests.tui.recorded import Recorded, job, snapshot, worker
from tests.tui.test_screens import SCREENS, same_as, writing
from tests.tui.tour import DRAWN, stops, tones, touring

IMAGES = Path(__file__).parents[2] / "docs" / "images"
BARS = str.maketrans(dict.fromkeys("▁▂▃▄▅▆▇█", " "))


def settled(lines: list[str]) -> str:
    """A scrollbar settles when it likes."""
    return "\n".join(line[:-1].rstrip() if line[-1:] in "▁▂▃▄▅▆▇█" else line for line in lines)


def drawn(shown: Dashboard) -> str:
    """What is on the screen, and below it what it means."""
    meant = [line for line in tones(shown) if line.strip()]
    text = "\n".join([settled(shown.lines), "--- meanings", *meant])
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@pytest.mark.parametrize(
    ("width", "height", "theme"), [(120, 36, "dark"), (80, 24, "dark"), (80, 24, "light")]
)
async def test_every_view_is_as_it_was_in_any_theme(width: int, height: int, theme: str):
    """The light theme has the very same meanings in the same places."""
    file = SCREENS / f"tour-{width}x{height}.txt"
    parts = re.split(r"^=== (\w+)\n", file.read_text("utf-8") if file.exists() else "", flags=re.MULTILINE)
    stored, seen = dict(zip(parts[1::2], parts[2::2], strict=True)), {}
    async with touring(width, height, theme) as shown:
        async for name in stops(shown):
            if writing():
                await shown.pilot.pause(1)
            else:
                with suppress(AssertionError):  # what is compared below shows the difference
                    await shown.until(lambda: drawn(shown) == stored.get(name))  # noqa: B023 - called at once
            seen[name] = drawn(shown)
    if writing() and theme == "dark":
        file.write_text("".join(f"=== {name}\n{text}" for name, text in seen.items()), encoding="utf-8")
        return
    assert seen == stored


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
    async with touring(120, 34) as shown:
        async for name in stops(shown):
            if name in DRAWN:
                stored = words((IMAGES / f"{name}.svg").read_text(encoding="utf-8"))
                await shown.until(lambda: words(shown.app.export_screenshot(title="fleet-tui")) == stored)  # noqa: B023 - called at once
    first = (IMAGES / "dashboard.svg").read_text(encoding="utf-8")
    assert words(first) == words(await picture()), "python docs/images/dashboard.py"
