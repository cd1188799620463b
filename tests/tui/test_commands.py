"""The command palette, and what a reload would do before it does."""

from __future__ import annotations

import pytest

from fleet_protocol.ids import JobId
from fleet_protocol.plan import Category, Plan, PlanEntry
from fleet_tui.app import FleetTui
from fleet_tui.settings import Settings
from tests.tui.driver import Dashboard, dashboard
from tests.tui.recorded import NOW, gesture_lab, job_id

SIZES = [(80, 24), (120, 36)]


def plan(*names: str, changed: bool = True) -> Plan:
    entries = tuple(
        PlanEntry(
            job_id=JobId(job_id(name)),
            name=name,
            model="gbt",
            mode="oracle",
            category=Category.NEW,
            differs=(),
        )
        for name in names
    )
    return Plan(fleet="gesture-lab", file="lab.toml", changed=changed, entries=entries)


async def ask_for_plan(shown: Dashboard) -> None:
    await shown.press("ctrl+p")
    await shown.until("Search for commands")
    await shown.press(*"plan")
    await shown.until("applied only after y")
    await shown.pilot.pause(0.3)  # Textual looks for more before it takes the first
    await shown.press("enter")


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_a_reload_is_shown_and_applied_only_after_y(width: int, height: int) -> None:
    lab = gesture_lab()
    lab.plans = [plan("gbt-new")]
    async with dashboard(lab, width=width, height=height) as shown:
        await shown.until("cnn-oracle")
        await ask_for_plan(shown)
        await shown.until("1 new")
        assert "gbt-new" in shown.text
        await shown.press("n")
        await shown.until(lambda: "gbt-new" not in shown.text)
        assert "reload" not in lab.asked

        await ask_for_plan(shown)
        await shown.until("gbt-new")
        await shown.press("y")
        await shown.until("✓ reloaded lab.toml: 1 new")
        assert lab.asked.count("reload") == 1


async def test_a_manifest_written_anew_meanwhile_has_to_be_looked_at_again() -> None:
    lab = gesture_lab()
    lab.plans = [plan("gbt-new")]
    async with dashboard(lab) as shown:
        await shown.until("cnn-oracle")
        shown.app.action_plan()
        await shown.until("gbt-new")
        lab.plans = [plan("gbt-new", "gbt-newer")]
        await shown.press("y")
        await shown.until("✗ the manifest or its jobs changed meanwhile")
        assert "reload" not in lab.asked


@pytest.mark.parametrize(("changed", "read_only"), [(False, False), (True, True)])
async def test_nothing_is_applied_where_there_is_nothing_or_no_right_to(
    changed: bool, read_only: bool
) -> None:
    lab = gesture_lab()
    lab.plans, lab.read_only = [plan(changed=changed)], read_only
    async with dashboard(lab) as shown:
        await shown.until("cnn-oracle")
        shown.app.action_plan()
        await shown.until("read-only: orders need" if read_only else "nothing to apply")
        await shown.press("y", "escape")
        await shown.until(lambda: "Reload lab.toml" not in shown.text)
        assert "reload" not in lab.asked


async def test_every_key_is_a_command() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press("ctrl+p")
        await shown.until("Search for commands")
        await shown.press(*"reverse")
        await shown.until("reverse the order")
        await shown.pilot.pause(0.3)
        await shown.press("enter")
        await shown.until("sort status reversed")


async def test_view_order_and_reading_are_as_they_were_left() -> None:
    left = Settings(view="failures", sort="name", descending=True, wrap=True, stamps=True)
    app = FleetTui(gesture_lab(), clock=lambda: NOW, settings=left)
    async with app.run_test(size=(120, 36)) as pilot:
        shown = Dashboard(app, pilot, gesture_lab())
        await shown.until("sort name reversed")
        await shown.until(lambda: shown.at == "gru-lr-too-high")
        assert app.settings == left
        await shown.press("1", "s")
        await shown.until("sort model")
        app.theme = "light"
    kept = app.settings
    assert (kept.view, kept.sort, kept.theme, kept.wrap) == ("jobs", "model", "light", True)
