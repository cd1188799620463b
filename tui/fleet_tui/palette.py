"""How meanings look: themes of one accent, their likeness without colour, and every glyph's likeness in ASCII."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter
from textual.strip import Strip
from textual.theme import Theme

from fleet_tui.text import Line, Tone, fit, line_width

# Good, bad and warn differ from each other also for eyes that do not tell red from green.
DARK = Theme(
    name="dark",
    primary="#6cb6d9",
    accent="#6cb6d9",
    foreground="#c9d1d9",
    background="#0e1216",
    surface="#0e1216",
    panel="#161c22",
    success="#7cc4a8",
    warning="#ead28a",
    error="#e8703f",
    dark=True,
    variables={"scrollbar": "#2b343d", "scrollbar-hover": "#3a4651", "scrollbar-active": "#6cb6d9"},
)
LIGHT = Theme(
    name="light",
    primary="#1668a0",
    accent="#1668a0",
    foreground="#24292f",
    background="#fefefc",
    surface="#fefefc",
    panel="#f2f2ee",
    success="#0f7a5c",
    warning="#946f00",
    error="#8f1d14",
    dark=False,
    variables={"scrollbar": "#cfd3d6", "scrollbar-hover": "#b6bcc1", "scrollbar-active": "#1668a0"},
)


@dataclass(frozen=True, slots=True)
class Look:
    """A style for each tone, and what lies under the row of the cursor."""

    tones: Mapping[Tone, Style]
    cursor: Style


COLOURLESS = Look(
    {
        "plain": Style(),
        "dim": Style(dim=True),
        "strong": Style(bold=True),
        "accent": Style(),
        "good": Style(),
        "bad": Style(bold=True),
        "warn": Style(bold=True),
        "rule": Style(dim=True),
    },
    cursor=Style(reverse=True),
)


def look(app: App[object]) -> Look:
    """Of the theme that `app` shows now."""
    if app.no_color or app.native_ansi_color:
        return COLOURLESS
    if app.theme not in _looks:
        _looks[app.theme] = _look_of(app.theme_variables)
    return _looks[app.theme]


_looks: dict[str, Look] = {}


def _look_of(variables: Mapping[str, str]) -> Look:
    ink, paper = Color.parse(variables["foreground"]), Color.parse(variables["background"])

    def style(color: Color, *, bold: bool = False) -> Style:
        return Style(color=color.rich_color, bold=bold or None)

    def named(name: str) -> Style:
        return style(Color.parse(variables[name]))

    return Look(
        {
            "plain": Style(),
            "dim": style(ink.blend(paper, 0.35)),
            "strong": style(ink.blend(paper.get_contrast_text(1.0), 0.7), bold=True),
            "accent": named("accent"),
            "good": named("success"),
            "bad": named("error"),
            "warn": named("warning"),
            "rule": style(ink.blend(paper, 0.78)),
        },
        cursor=Style(bgcolor=paper.blend(Color.parse(variables["accent"]), 0.15).rich_color),
    )


def strip(line: Line, width: int, base: Style, shown: Look) -> Strip:
    """A line of exactly `width` cells; `base` lies under each piece's own style.

    Each change of style costs the terminal some forty bytes, so blanks take the style of what they stand beside.
    """
    pieces: list[tuple[str, Style]] = []
    room = width
    for text, tone in line:
        if (used := line_width([(text, tone)])) > room:
            text, used = fit(text, room), room
        room -= used
        style = base + shown.tones[tone]
        if pieces and (text.isspace() or pieces[-1][1] == style):
            pieces[-1] = (pieces[-1][0] + text, pieces[-1][1])
        elif pieces and pieces[-1][0].isspace():
            pieces[-1] = (pieces[-1][0] + text, style)
        elif text:
            pieces.append((text, style))
        if room <= 0:
            break
    blank = " " * max(0, room)
    last, style = pieces.pop() if pieces else ("", base)
    return Strip([*(Segment(*piece) for piece in pieces), Segment(last + blank, style)], width)


GLYPHS = {
    "○": "o", "◐": "~", "●": "*", "✓": "+", "✗": "x", "⊘": "-", "↺": "<", "◌": "~",
    "…": "~", "·": "-", "–": "-", "—": "-", "×": "x", "°": " ", "⏎": "<", "↑": "^", "↓": "v", "←": "<", "→": ">",
    "─": "-", "━": "=", "╸": "-", "│": "|", "┤": "+", "└": "+", "▌": ">", "┃": "|", "▔": "-", "🔎": "> ",
}  # fmt: skip
"""What `--ascii` draws instead, cell for cell."""


def ascii_of(text: str) -> str:
    """`text` in as many cells of ASCII; `?` for what is no glyph of the dashboard's own."""
    if text.isascii():
        return text
    return set_cell_size("".join(map(_ascii_glyph, text)), cell_len(text))


def _ascii_glyph(glyph: str) -> str:
    if glyph.isascii():
        return glyph
    if "\u2800" <= glyph <= "\u28ff":  # braille: dots in the upper half, in the lower one, in both
        dots = ord(glyph) - 0x2800
        return " '.:"[bool(dots & 0x1B) + 2 * bool(dots & 0xE4)]
    if "▁" <= glyph <= "█":  # a bar of eight heights
        return "_.,-=+*#"[ord(glyph) - ord("▁")]
    return GLYPHS.get(glyph, "?" * cell_len(glyph))


class Ascii(LineFilter):
    """The last thing on the way to the terminal, so that it also meets borders, scrollbars and names."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_of(text), style, control) for text, style, control in segments]
