"""The two lines on top: whose fleet, how it stands and the link; then the views, and how the list is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from fleet_tui import facts
from fleet_tui.store import Store
from fleet_tui.text import Line, joined, line_width, spread
from fleet_tui.views import VIEWS, View, Views
from fleet_tui.widgets.line import Lines

COUNTED_SECONDS = 0.5


class Masthead(Vertical):
    """Draws what it is given, what changes all the time twice a second; says which view was clicked."""

    DEFAULT_CSS = "Masthead { height: auto; }"

    @dataclass
    class Chosen(Message):
        view: View

    def __init__(self, name: str) -> None:
        """`name` is what the operator calls the coordinator."""
        super().__init__()
        self._whose, self._ends = name, [0]
        self._header, self._tabs = Lines(id="header"), Lines(id="tabs")
        self._resting = False
        self._counted: Callable[[], None] | None = None

    def soon(self, draw: Callable[[], None]) -> None:
        """Draw now, or with the next count."""
        if self._resting:
            self._counted = draw
            return
        draw()
        self._resting = True
        self.set_timer(COUNTED_SECONDS, self._rested)

    def _rested(self) -> None:
        self._resting, draw, self._counted = False, self._counted, None
        if draw is not None:
            self.soon(draw)

    def compose(self) -> ComposeResult:
        yield from (self._header, self._tabs)

    def show_fleet(self, store: Store, link: Line, width: int) -> None:
        self._header.show(facts.header_line(store, link, width - 2, self._whose))

    def show_views(self, store: Store, views: Views, marks: str, width: int) -> None:
        parts: list[Line] = [[(marks, "accent")]] if marks else []
        parts += [[(f"/{views.typed}", "accent")]] if views.typed else []
        parts += [[(views.order, "dim")]] if views.order else []
        right = joined(*parts, gap="   ")
        tabs, self._ends = facts.tabs_line(store, VIEWS, views.view, width - 2 - line_width(right) - 2)
        self._tabs.show(spread(tabs, right, width - 2))

    @on(Lines.Clicked, "#tabs")
    def _on_tab_clicked(self, event: Lines.Clicked) -> None:
        event.stop()
        if view := next((view for view, end in zip(VIEWS, self._ends, strict=False) if event.x <= end), None):
            self.post_message(self.Chosen(view))
