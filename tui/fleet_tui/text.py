"""Text that is safe and exact to draw: control sequences removed, widths counted in terminal cells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from rich.cells import cell_len, set_cell_size

Tone = Literal["plain", "dim", "strong", "accent", "good", "bad", "warn", "rule"]
"""What a piece of text means; the palette decides how that looks, also without any colour."""

Span = tuple[str, Tone]
Line = list[Span]

_SEQUENCES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links, the clipboard
    r"|\x1b[PX^_].*?\x1b\\"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[ -/]+[0-~]|\x1b[0-~]",
    re.DOTALL,
)
# What is left of C0 and C1, marks that change direction or hide, line separators, and halves of surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def plain(text: str) -> str:
    """One line of `text` as a terminal may get it: no escape sequence, control or direction mark is left."""
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub("", _SEQUENCES.sub("", text).expandtabs(8))


def one_line(text: str) -> str:
    """`plain`, with line breaks as spaces."""
    return plain(" ".join(text.split("\n")))


def widest(texts: Iterable[str | None]) -> int:
    """Cells of the longest."""
    return max((len(text) if text.isascii() else cell_len(text) for text in texts if text), default=0)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` cells: cut with an ellipsis, or padded."""
    used = cell_len(text)
    if used > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    return " " * (width - used) + text if right else text + " " * (width - used)


def wrapped(text: str, width: int) -> list[str]:
    """`text` broken at spaces into lines of at most `width` cells; a longer word is broken anywhere."""
    lines: list[str] = []
    current = ""
    for word in text.split():
        candidate = f"{current} {word}" if current else word
        if cell_len(candidate) <= width or width < 1:
            current = candidate
            continue
        if current:
            lines.append(current)
        while cell_len(word) > width:
            lines.append(set_cell_size(word, width))
            word = word[len(lines[-1].rstrip()) :]
        current = word
    return [*lines, current] if current else lines


def line_width(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)


def joined(*parts: Line, gap: str = "  ") -> Line:
    """The parts that are not empty, with `gap` between them."""
    whole: Line = []
    for part in parts:
        if part:
            whole += [(gap, "plain"), *part] if whole else part
    return whole


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` at the left edge and `right` at the right one; where they meet, `left` is cut."""
    room = width - line_width(right)
    if room <= 0:
        return left
    shown: Line = []
    for text, tone in left:
        if cell_len(text) > room:
            shown.append((fit(text, room), tone))
            room = 0
            break
        shown.append((text, tone))
        room -= cell_len(text)
    return [*shown, (" " * room, "plain"), *right]
