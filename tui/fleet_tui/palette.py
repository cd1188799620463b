"""How meanings look: one quiet theme with one accent; without colour, weight and reverse carry them."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.theme import Theme

from fleet_tui.text import Line, Tone, fit, line_width

ACCENT = "#6cb6d9"
THEME = Theme(
    name="fleet",
    primary=ACCENT,
    accent=ACCENT,
    foreground="#c9d1d9",
    background="#0e1216",
    surface="#0e1216",
    panel="#161c22",
    success="#86b38a",
    warning="#d8ae5c",
    error="#e58a63",  # orange rather than red: apart from the green also for colour-blind eyes
    dark=True,
    variables={"scrollbar": "#2b343d", "scrollbar-hover": "#3a4651", "scrollbar-active": ACCENT},
)

COLOURED: dict[Tone, Style] = {
    "plain": Style(),
    "dim": Style(color="#7d8894"),
    "strong": Style(color="#eef2f5", bold=True),
    "accent": Style(color=ACCENT),
    "good": Style(color="#86b38a"),
    "bad": Style(color="#e58a63"),
    "warn": Style(color="#d8ae5c"),
    "rule": Style(color="#36414b"),
}
COLOURLESS: dict[Tone, Style] = {
    "plain": Style(),
    "dim": Style(dim=True),
    "strong": Style(bold=True),
    "accent": Style(),
    "good": Style(),
    "bad": Style(bold=True),
    "warn": Style(bold=True),
    "rule": Style(dim=True),
}
CURSOR = Style(bgcolor="#1d2730")
CURSOR_COLOURLESS = Style(reverse=True)


def styles(no_color: bool) -> dict[Tone, Style]:
    return COLOURLESS if no_color else COLOURED


def strip(line: Line, width: int, base: Style, *, no_color: bool = False) -> Strip:
    """A line of exactly `width` cells; `base` lies under each piece's own style."""
    tones = styles(no_color)
    segments: list[Segment] = []
    room = width
    for text, tone in line:
        if (used := line_width([(text, tone)])) > room:
            text, used = fit(text, room), room
        segments.append(Segment(text, base + tones[tone]))
        room -= used
        if room <= 0:
            break
    return Strip([*segments, Segment(" " * room, base)] if room > 0 else segments, width)
