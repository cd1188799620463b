"""What is remembered, and what of a broken file is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_tui.pace import pace
from fleet_tui.settings import UNTOUCHED, Settings, read, write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    kept = Settings(
        theme="light", ascii=True, view="workers", sort="name", descending=True, wrap=True, stamps=True
    )
    write(tmp_path / "new" / "dashboard.json", kept)
    assert read(tmp_path / "new" / "dashboard.json") == (kept, "")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["dashboard.json"]
    assert read(tmp_path / "none") == (UNTOUCHED, "")


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ('{"theme": "light", "colour": 1, "ascii": "yes"}', Settings(theme="light"), "ignored ascii, colour"),
        ("[]", UNTOUCHED, "no JSON object"),
        ('{"theme"', UNTOUCHED, "cannot be read and is ignored"),
        ("\x00", UNTOUCHED, "cannot be read and is ignored"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    tmp_path: Path, text: str, settings: Settings, said: str
) -> None:
    file = tmp_path / "dashboard.json"
    file.write_text(text)
    found, sentence = read(file)
    assert found == settings
    assert said in sentence
    assert "\n" not in sentence


def test_slow_links_and_windows_nobody_looks_at_are_drawn_less_often() -> None:
    here, far = pace(environment={}), pace(environment={"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"})
    assert (here.seconds, far.seconds, pace(slow=True).seconds) == (0.1, 0.25, 1.25)
    here.focused = far.focused = False
    assert (here.seconds, far.seconds) == (1.0, 1.0)
