"""Several fleets in one dashboard: nothing of one is left when it turns to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_client.contexts import Config, Context, write
from fleet_client.errors import BadSettings
from fleet_tui.access import Access
from fleet_tui.app import FleetTui
from fleet_tui.transport import Access as Way
from tests.tui.driver import Dashboard
from tests.tui.recorded import NOW, Recorded, events, gesture_lab, job, snapshot


@pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24)])
async def test_another_fleet_is_begun_anew(width: int, height: int) -> None:
    lab, home = gesture_lab(), Recorded(read_only=True)
    home.tell(snapshot(home.hold(job("a", "running"))).model_copy(update={"fleet": "attic"}))

    def gone() -> Way:
        raise BadSettings("the token in /nowhere cannot be read.")

    app = FleetTui(
        lab,
        clock=lambda: NOW,
        contexts={"lab": lambda: lab, "home": lambda: home, "gone": gone},
        context="lab",
    )
    async with app.run_test(size=(width, height)) as pilot:
        shown = Dashboard(app, pilot, lab)
        await shown.until("lab gesture-lab")
        await shown.press("asterisk", "s", "slash", *"gru", "enter")
        await shown.until("+12   /gru   sort name")
        await app.action_context("gone")
        await shown.until("✗ the token in /nowhere cannot be read.")

        await shown.press("ctrl+p")
        await shown.until("Search for commands")
        await shown.press(*"context")
        await shown.until("context: home")
        assert "context: lab" not in shown.text
        await shown.pilot.pause(0.3)  # Textual looks for more before it takes the first
        await shown.press("enter")

        await shown.until("home attic")
        await shown.until(lambda: shown.names == ["a"] and "read-only" in shown.text)
        assert "sort name" in shown.text, "the way to look is kept"
        assert not app.board.rows.marked
        assert not app.board.views.typed
        assert home.asked[0] == "events after None"
        lab.tell(events(job("late"), first=9000))
        home.tell(events(*home.hold(job("b", "running")), first=101))
        await shown.until(lambda: shown.names == ["a", "b"])
        assert len(app.store.jobs) == 2


async def test_one_fleet_needs_no_name() -> None:
    app = FleetTui(gesture_lab(), clock=lambda: NOW, contexts={"lab": gesture_lab}, context="lab")
    async with app.run_test(size=(80, 24)) as pilot:
        await Dashboard(app, pilot, gesture_lab()).until("fleet gesture-lab")


def test_the_token_is_the_contexts_and_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path))
    for name in ("FLEET_TOKEN", "FLEET_URL", "FLEET_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    write(Config("lab", {"lab": Context("https://lab.example", "one")}))
    access = Access()
    assert (access.url, access.context, access.renew()) == ("https://lab.example", "lab", False)
    write(Config("lab", {"lab": Context("https://lab.example", "two")}))
    assert access.renew()
    (tmp_path / "config.toml").write_text("contxt = 1")
    assert not access.renew()
    (tmp_path / "config.toml").unlink()
    assert Access("http://127.0.0.1:1").context == ""
