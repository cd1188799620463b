"""The line to type in: the list's filter, or a question that the text puts."""

from __future__ import annotations

from textual.widgets import Input

from fleet_tui.widgets.pager import Typed

QUESTIONS: dict[Typed, str] = {
    "search": "search the text, as a regular expression; n and N go on",
    "keep": "only lines with this, and what is around them; ! in front: only lines without",
    "time": "go to 14:03, 2026-05-04 14:03 or 10m (ago)",
}


class Field(Input):
    """Out of sight until it is opened."""

    DEFAULT_CSS = "Field { display: none; height: 1; border: none; padding: 0 1; background: $panel; }"
    typing: Typed | None = None
    """What it is for; None is the list's filter."""

    def __init__(self) -> None:
        super().__init__(id="filter", compact=True)

    def open(self, typing: Typed | None, value: str, placeholder: str) -> None:
        self.typing, self.value, self.placeholder = typing, value, placeholder
        self.display = True
        self.screen.set_focus(self)  # at once: keys typed right after are meant for it
