"""The keys as the running program has them: what the help screen and the last line show."""

from __future__ import annotations

from textual.screen import Screen

from fleet_tui.text import Line, line_width

SIGNS = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "slash": "/", "question_mark": "?", "enter": "⏎",
    "escape": "Esc", "space": "Space", "tab": "Tab", "home": "Home", "end": "End", "asterisk": "*",
    "backslash": "\\", "pageup": "PgUp", "pagedown": "PgDn",
}  # fmt: skip


def sign(key: str) -> str:
    if key.startswith("ctrl+"):
        return "Ctrl-" + key.removeprefix("ctrl+").upper()
    return SIGNS.get(key, key)


def key_list(screen: Screen[None]) -> list[tuple[str, str]]:
    """Every live binding: its keys, and what they do. Keys that do the same share a line."""
    keys: dict[str, list[str]] = {}
    for key, active in screen.active_bindings.items():
        if active.enabled:
            keys.setdefault(active.binding.description, []).append(sign(key))
    return [(" ".join(signs), what) for what, signs in keys.items()]


def hints(screen: Screen[None], width: int) -> Line:
    """The most used keys in one line, as many as fit."""
    line: Line = []
    for key, active in screen.active_bindings.items():
        if active.binding.show and active.enabled:
            item: Line = [(sign(key), "accent"), (f" {active.binding.description}   ", "dim")]
            if line_width(line) + line_width(item) <= width + 3:
                line += item
    return line
