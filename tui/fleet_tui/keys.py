"""The keys as the running program has them: what the help screen and the last line show."""

from __future__ import annotations

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input

from fleet_tui.text import Line, joined, line_width
from fleet_tui.views import VIEWS

BOARD_KEYS: list[BindingType] = [
    # Keys that move the focus have priority: those typed after them must not reach what was focused before.
    *(
        Binding(str(number), f"view('{view}')", "views", show=False, priority=True)
        for number, view in enumerate(VIEWS, 1)
    ),
    Binding("slash", "filter", "filter", priority=True),
    Binding("slash", "search", "search", priority=True),
    Binding("s", "sort", "sort"),
    Binding("S", "reverse", "reverse the order", show=False),
    Binding("b", "group", "group by", show=False),
    Binding("w", "why", "why / log"),
    Binding("m", "curves", "curves", show=False),
    Binding("x", "order('cancel')", "cancel"),
    Binding("r", "order('requeue')", "requeue"),
    Binding("R", "order('requeue', True)", "requeue all alike"),
    Binding("D", "order('drain')", "drain"),
    Binding("U", "order('resume')", "resume"),
    Binding("P", "pause", "stand still, go on", show=False),
    Binding("J", "next_row(1)", "next, before", show=False),
    Binding("K", "next_row(-1)", "next, before", show=False),
    Binding("n", "plot('name')", "metric"),
    Binding("L", "plot('log')", "log scale"),
    Binding("o", "plot('smooth')", "smooth"),
    Binding("T", "plot('time')", "time"),
    Binding("tab", "app.focus_next", "list or text", show=False),
    Binding("escape", "step_out", "back", show=False),
    Binding("question_mark", "help", "help"),
]

SIGNS = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "slash": "/", "question_mark": "?", "enter": "⏎",
    "escape": "Esc", "space": "Space", "tab": "Tab", "home": "Home", "end": "End", "asterisk": "*",
    "ampersand": "&", "at": "@", "backslash": "\\", "pageup": "PgUp", "pagedown": "PgDn",
}  # fmt: skip
GAP = "   "


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
    """The most used keys in one line, as many as fit: those of what has the focus first."""
    if isinstance(screen.focused, Input):
        return [("⏎", "accent"), (" keep it   ", "dim"), ("Esc", "accent"), (" drop it", "dim")]
    away = screen.focused is not None and screen.focused.id == "text"
    line: Line = [("Esc", "accent"), (" back", "dim")] if away else []
    keys = {key: active.binding for key, active in screen.active_bindings.items() if active.enabled}
    items = {key: _hint(key, binding) for key, binding in keys.items() if binding.show}
    last = items.pop("question_mark", [])  # there is always room for it: it leads to all the others
    for item in items.values():
        longer = joined(line, item, gap=GAP)
        line = longer if line_width(joined(longer, last, gap=GAP)) <= width else line
    return joined(line, last, gap=GAP)


def _hint(key: str, binding: Binding) -> Line:
    return [(sign(key), "accent"), (f" {binding.description}", "dim")]
