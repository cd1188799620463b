"""One or a few lines of spans: headers, facts, rules, hints."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from fleet_tui.palette import look, strip
from fleet_tui.text import Line


class Lines(Widget):
    """Draws the lines it is given; its height is the stylesheet's, or `fit_height`."""

    DEFAULT_CSS = "Lines { height: 1; width: 1fr; }"

    @dataclass
    class Clicked(Message):
        lines: Lines
        x: int

        @property
        def control(self) -> Lines:
            return self.lines

    def __init__(self, *, id: str) -> None:  # noqa: A002  (Textual's name)
        super().__init__(id=id)
        self._lines: list[Line] = []

    def show(self, *lines: Line) -> None:
        """Draw these from now on; costs nothing when they are what is shown already."""
        if list(lines) != self._lines:
            self._lines = list(lines)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        line = self._lines[y] if y < len(self._lines) else []
        return strip(line, self.size.width, base, look(self.app))

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(self, event.x))
