"""Text to read while it grows: a log, an explanation. Draws only the visible lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fleet_client.folding import HELD_LINES
from fleet_tui.log import LogText


class Pager(ScrollView, can_focus=True, inherit_bindings=False):
    """Follows the end of its text until the reader scrolls up; resumes at the end, or on `f`."""

    DEFAULT_CSS = "Pager { scrollbar-size: 1 1; }"
    BINDINGS = [
        Binding("down,j", "scroll_by(1)", "down", show=False),
        Binding("up,k", "scroll_by(-1)", "up", show=False),
        Binding("right,l", "scroll_across(8)", "right", show=False),
        Binding("left,h", "scroll_across(-8)", "left", show=False),
        Binding("home,g", "start", "first line", show=False),
        Binding("end,G,f", "follow", "follow the end", show=False),
        Binding("pagedown,ctrl+f", "scroll_pages(2)", "page down", show=False),
        Binding("pageup,ctrl+b", "scroll_pages(-2)", "page up", show=False),
        Binding("ctrl+d", "scroll_pages(1)", "half a page down", show=False),
        Binding("ctrl+u", "scroll_pages(-1)", "half a page up", show=False),
    ]

    @dataclass
    class FollowChanged(Message):
        following: bool

    def __init__(self, *, id: str) -> None:  # noqa: A002  (Textual's name)
        super().__init__(id=id)
        self.text: Sequence[str] | LogText = ()
        self.following = True
        self._measured = 0
        self._widest = 0

    def show(self, text: Sequence[str] | LogText, *, follow: bool) -> None:
        """Another text, from its beginning or, following, from its end."""
        self.text, self._measured, self._widest = text, 0, 0
        self._set_following(follow)
        self.virtual_size = Size(0, 0)
        self.scroll_to(0, 0, animate=False, force=True)
        self.grown()

    def grown(self, dropped: int = 0) -> None:
        """The text has more lines at its end and lost `dropped` at its beginning; what is read stays put."""
        count = len(self.text)
        start = max(0, self._measured - dropped - HELD_LINES - 1)  # these may have been drawn over
        self._widest = max([self._widest, *(cell_len(self.text[at]) for at in range(start, count))])
        self._measured = count
        self.virtual_size = Size(self._widest, count)
        if self.following:
            self._to_end()
        elif dropped:
            self.scroll_to(y=max(0, self.scroll_offset.y - dropped), animate=False, force=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, base = self.scrollable_content_region.width, self.rich_style
        at = y + self.scroll_offset.y
        if at >= len(self.text):
            return Strip.blank(width, base)
        x = self.scroll_offset.x
        line = Strip([Segment(" " + self.text[at], base)])
        return line.crop_extend(x, x + width, base)

    def on_resize(self) -> None:
        if self.following:
            self._to_end()

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        if shown:  # Textual tells a scrollbar only of movements that it was there to see
            self.vertical_scrollbar.position = self.scroll_y

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and new_value < self._end:
            self._set_following(False)
        elif new_value >= self._end:
            self._set_following(True)

    @property
    def bottom(self) -> int:
        """The number of the last line that is seen."""
        return min(len(self.text), self.scroll_offset.y + self.scrollable_content_region.height)

    @property
    def _end(self) -> int:
        return max(0, len(self.text) - self.scrollable_content_region.height)

    def _to_end(self) -> None:
        self.scroll_to(y=self._end, animate=False, force=True)

    def _set_following(self, following: bool) -> None:
        if following != self.following:
            self.following = following
            self.post_message(self.FollowChanged(following))

    def action_scroll_by(self, lines: int) -> None:
        self.scroll_to(y=min(max(0, self.scroll_offset.y + lines), self._end), animate=False, force=True)

    def action_scroll_across(self, cells: int) -> None:
        self.scroll_to(x=max(0, self.scroll_offset.x + cells), animate=False, force=True)

    def action_scroll_pages(self, halves: int) -> None:
        self.action_scroll_by(halves * max(1, self.size.height // 2))

    def action_start(self) -> None:
        self.scroll_to(y=0, animate=False, force=True)

    def action_follow(self) -> None:
        self._set_following(True)
        self._to_end()
