"""Every glyph has its likeness in ASCII, and the colours that are meant to differ do so for all eyes."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

import fleet_client.plot
import fleet_tui
from fleet_tui.palette import DARK, LIGHT, ascii_of
from tests.tui.driver import dashboard
from tests.tui.recorded import gesture_lab

# Machado, Oliveira and Fernandes 2009: linear RGB as it is seen without the cones for long or for medium waves.
EYES = {
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
}


def linear(colour: str) -> list[float]:
    return [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in Color.parse(colour).normalized
    ]


def lab(colour: str, eyes: str) -> tuple[float, float, float]:
    red, green, blue = (
        max(0.0, sum(a * b for a, b in zip(row, linear(colour), strict=True))) for row in EYES[eyes]
    )
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def contrast(one: str, other: str) -> float:
    lights = sorted(
        sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(c), strict=True)) for c in (one, other)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
def test_meanings_differ_for_colour_blind_eyes_and_can_be_read(theme: Theme) -> None:
    tones = [str(tone) for tone in (theme.success, theme.error, theme.warning, theme.accent)]
    for eyes in EYES:
        for one, other in combinations(tones, 2):
            apart = sum((a - b) ** 2 for a, b in zip(lab(one, eyes), lab(other, eyes), strict=True)) ** 0.5
            assert apart > 20, (one, other, eyes)  # 2 is just seen side by side
    assert all(contrast(tone, str(theme.background)) >= 4.5 for tone in tones)  # WCAG AA


def test_every_glyph_that_the_dashboard_draws_has_its_likeness() -> None:
    sources = [*Path(fleet_tui.__file__).parent.rglob("*.py"), Path(fleet_client.plot.__file__)]
    drawn = {
        glyph: source.name
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isprintable()
        for glyph in node.value
        if not glyph.isascii()
    }
    assert {glyph: source for glyph, source in drawn.items() if "?" in ascii_of(glyph)} == {}


@pytest.mark.parametrize("text", ["⣿⠁⡀ ▁▄█", "gänse 模型 e\u0301", "✗ failed · 3 × 1–2"])
def test_in_ascii_everything_keeps_its_place(text: str) -> None:
    assert ascii_of(text).isascii()
    assert cell_len(ascii_of(text)) == cell_len(text)


async def test_any_theme_draws() -> None:
    async with dashboard(gesture_lab(), width=80, height=24) as shown:
        await shown.until("cnn-oracle")
        for theme in ("light", *BUILTIN_THEMES):
            shown.app.theme = theme
            await shown.until("cnn-oracle")
