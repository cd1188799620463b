"""Every view by keys: what is on the screen, and what each cell of it means, as stored; `test_screens` says how."""

from __future__ import annotations

import re
from contextlib import suppress
from html import unescape
from pathlib import Path

import pytest
from rich.color import Color

from fleet_client.errors import Unreachable
from tests.tui.driver import Dashboard, dashboard, picture
from tests.tui.recorded import Recorded, job, snapshot, worker
from tests.tui.test_screens import SCREENS, writing
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


async def test_ten_thousand_jobs():
    told = Recorded()
    told.tell(snapshot(told.hold(*(job(f"sweep/seed={at}") for at in range(10_000))), [worker("pi")]))
    async with dashboard(told, width=80, height=24) as shown:
        await shown.until("10000 pending")
        await shown.press("G")
        await shown.until("sweep/seed=9999")
        await in_all_views("many-views-80x24", shown, {})


VIEWS = {"1": "Jobs", "2": "Failures", "3": "Workers", "4": "Metrics", "5": "Events"}


async def in_all_views(name: str, shown: Dashboard, says: dict[str, str]) -> None:
    """One after the other, each with words that it has to say, below each other in one file."""
    file = SCREENS / f"{name}.txt"
    parts = file.read_text("utf-8").split("\n=== \n") if file.exists() else []
    seen = []
    for at, (key, view) in enumerate(VIEWS.items()):
        await shown.press(key)
        await shown.until(f"{key} {view}")
        await shown.until(says.get(view, ""))
        if writing():
            await shown.pilot.pause(0.5)
        with suppress(AssertionError, IndexError):  # what is compared below shows the difference
            await shown.until(lambda: settled(shown.lines).rstrip() == parts[at].rstrip())  # noqa: B023 - called at once
        seen.append(settled(shown.lines).rstrip())
    if writing():
        file.write_text("\n=== \n".join(seen) + "\n", encoding="utf-8")
        return
    assert seen == [part.rstrip() for part in parts]


async def test_every_view_of_an_empty_fleet_says_what_to_do():
    told = Recorded()
    told.tell(snapshot([]))
    async with dashboard(told, width=80, height=24) as shown:
        await shown.until("fleet reload training_manifest.toml")
        says = {
            "Failures": "No job has failed",
            "Workers": "fleet-agent run",
            "Events": "Nothing has happened",
        }
        await in_all_views("empty-views-80x24", shown, says)


async def test_every_view_keeps_what_it_knows_while_the_coordinator_is_away():
    async with touring(80, 24) as shown:
        shown.told.tell(Unreachable("No answer from http://127.0.0.1:8490: connection refused."))
        await shown.until("reconnecting in")
        await in_all_views("offline-views-80x24", shown, dict.fromkeys(VIEWS.values(), "data 0s old"))


@pytest.mark.parametrize("ascii_only", [True, False])
async def test_every_view_without_colour(monkeypatch: pytest.MonkeyPatch, ascii_only: bool):
    """NO_COLOR: no cell has one, whatever it means. `--ascii`: nothing else is drawn."""
    monkeypatch.setenv("NO_COLOR", "1")
    async with touring(80, 24, ascii_only=ascii_only) as shown:
        await in_all_views(
            f"plain-views-80x24{'-ascii' * ascii_only}", shown, {"Failures": "raise ValueError"}
        )
        for strip in shown.app.screen._compositor.render_strips():
            styles = [segment.style for segment in strip if segment.style]
            assert not [one for one in styles if coloured(one.color) or coloured(one.bgcolor)]
            assert not ascii_only or strip.text.isascii()


def coloured(color: Color | None) -> bool:
    return color is not None and not color.is_default


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
