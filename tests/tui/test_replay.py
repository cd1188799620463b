"""What was recorded is shown again; a file that is none is told by its line."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from fleet_tui.app import FleetTui
from fleet_tui.replay import BrokenRecording, Replay
from tests.tui.driver import Dashboard, looked_at, recorded
from tests.tui.recorded import NOW, Recorded


def replay(folder: Path, text: str) -> Replay:
    file = folder / "recording.jsonl"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    return Replay(file)


def words(lines: list[str]) -> list[str]:
    return [re.sub("[▁-█]", " ", line).rstrip() for line in lines]  # a scrollbar settles when it likes


async def test_a_recording_is_shown_as_it_was_and_orders_nothing(tmp_path: Path) -> None:
    text, before = await recorded()
    app = FleetTui(replay(tmp_path, text), clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        shown = Dashboard(app, pilot, Recorded())
        await looked_at(shown)
        assert words(shown.lines[1:]) == words(before[1:])
        assert "read-only" in shown.lines[0]
        await shown.press("x")
        await shown.until("read-only: ")


async def test_frames_come_as_far_apart_as_they_came(tmp_path: Path) -> None:
    text, _ = await recorded()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        later = line.get("frame", {}).get("type") == "live"
        line["at"] = f"{2036 if later else 2026}-01-01T00:00:00Z"
    frames = replay(tmp_path, "\n".join(map(json.dumps, lines))).events()
    assert (await anext(frames)).type == "snapshot"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(frames), timeout=0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no frame"),
        ("garbage", "line 1, is no line of a recording: Expecting value"),
        ('{"at": "2026-05-04T14:03:02Z"}', "line 1, is no line of a recording: it has no frame"),
        ('{"at": "2026-05-04T14:03:02Z", "frame": {"type": "live"}}', "line 1, is no line of a recording"),
        ('{"at": "2026-05-04T14:03:02Z", "text": "x", "of": "a"}', "line 1, is no line of a recording"),
        ("[]", "line 1, is no line of a recording"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_broken_file_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BrokenRecording, match=said) as told:
        replay(tmp_path, text)
    assert "\n" not in str(told.value)
