"""A live list: only visible lines are drawn, and only those that changed are drawn again."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fleet_tui.listings import Listing
from fleet_tui.palette import look, strip
from fleet_tui.query import Entry, Heading
from fleet_tui.text import Line


class Rows(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows by id under a title line. The cursor belongs to an id and stays on its line of the screen."""

    DEFAULT_CSS = "Rows { overflow-x: hidden; scrollbar-size-vertical: 1; }"
    BINDINGS = [
        Binding("enter", "open", "open"),
        Binding("space", "mark", "mark", show=False),
        Binding("asterisk", "mark_all", "mark all listed", show=False),
        Binding("backslash", "clear_marks", "clear the marks", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("home,g", "move_to(0)", "first", show=False),
        Binding("end,G", "move_to(-1)", "last", show=False),
        Binding("pagedown,ctrl+f", "move_pages(2)", "page down", show=False),
        Binding("pageup,ctrl+b", "move_pages(-2)", "page up", show=False),
        Binding("ctrl+d", "move_pages(1)", "half a page down", show=False),
        Binding("ctrl+u", "move_pages(-1)", "half a page up", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The cursor is on another row."""

        row_id: str | None

    class Marked(Message):
        """Other rows are marked now."""

    @dataclass
    class Opened(Message):
        row_id: str

    def __init__(self, *, id: str) -> None:  # noqa: A002  (Textual's name)
        super().__init__(id=id)
        self.entries: list[Entry] = []
        self.cursor: str | None = None
        self.marked: set[str] = set()
        self._touched = False
        self._listing: Listing | None = None
        self._position: dict[str, int] = {}
        self._drawn: dict[str, Line] = {}

    def show(self, listing: Listing) -> None:
        """Show these rows. Cursor and reading position stay with the cursor's id.

        Until the operator moves the cursor it stays on the first row, so that what is most urgent is seen.
        """
        before = self._position.get(self.cursor or "")
        line = None if before is None else before - self.scroll_offset.y
        self._listing, self.entries = listing, list(listing.entries)
        self._position = {entry: at for at, entry in enumerate(self.entries) if isinstance(entry, str)}
        self._drawn.clear()
        self.virtual_size = Size(0, len(self.entries) + 1)
        if self._touched and line is not None and self.cursor in self._position:
            self._scroll(self._position[self.cursor] - line)
        else:
            self._settle(before if self._touched and before is not None else 0)
        self.refresh()

    def redraw(self, ids: set[str] | None = None) -> None:
        """Draw visible rows again where their text changed; `ids` limits what is looked at."""
        top = self.scroll_offset.y
        for at in range(top, min(top + self._page, len(self.entries))):
            entry = self.entries[at]
            if isinstance(entry, str) and (ids is None or entry in ids):
                line = self._line(entry)
                if self._drawn.get(entry) != line:
                    self._drawn[entry] = line
                    self._refresh_at(at)

    @property
    def _page(self) -> int:
        return max(1, self.scrollable_content_region.height - 1)

    @property
    def _width(self) -> int:
        """Cells of a row's own line: beside the cursor's mark on its left and a blank on its right."""
        return max(0, self.scrollable_content_region.width - 3)

    def _line(self, row_id: str) -> Line:
        return self._listing.line(row_id, self._width) if self._listing else []

    def render_line(self, y: int) -> Strip:
        at = y - 1 + self.scroll_offset.y
        base, shown = self.rich_style, look(self.app)
        if y == 0:
            title = self._listing.title(self._width) if self._listing else []
            line: Line = [("  ", "plain"), *title]
        elif at < len(self.entries):
            entry = self.entries[at]
            line = self._heading(entry) if isinstance(entry, Heading) else self._row(entry)
            if entry == self.cursor:
                base += shown.cursor
        else:
            said = self._listing.empty if self._listing and not self.entries else ()
            line = [("  ", "plain"), (said[y - 2], "dim")] if 2 <= y < 2 + len(said) else []
        return strip(line, self.scrollable_content_region.width, base, shown)

    def _heading(self, heading: Heading) -> Line:
        return [("  ", "plain"), *(self._listing.heading(heading, self._width) if self._listing else [])]

    def _row(self, row_id: str) -> Line:
        if row_id not in self._drawn:
            self._drawn[row_id] = self._line(row_id)
        bar = "▌" if row_id == self.cursor else " "
        mark = "+" if row_id in self.marked else " "
        return [(bar + mark, "accent"), *self._drawn[row_id]]

    def on_resize(self) -> None:
        self._drawn.clear()
        self._scroll(self.scroll_offset.y)
        self._reveal()

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        if shown:  # Textual tells a scrollbar only of movements that it was there to see
            self.vertical_scrollbar.position = self.scroll_y

    def action_move(self, by: int) -> None:
        self.action_move_to(self._position.get(self.cursor or "", 0) + by, -1 if by < 0 else 1)

    def action_move_pages(self, halves: int) -> None:
        self.action_move(halves * max(1, self._page // 2))

    def action_move_to(self, at: int, towards: int = 1) -> None:
        """Put the cursor on entry `at` (negative from the end only for -1), or the next row beside a heading."""
        self._touched = True
        last = len(self.entries) - 1
        self._settle(last if at == -1 and towards == 1 else min(max(at, 0), max(last, 0)), towards)

    def action_mark(self) -> None:
        if self.cursor is not None:
            self.marked ^= {self.cursor}
            self.post_message(self.Marked())
            self.action_move(1)

    def action_mark_all(self) -> None:
        self.marked.update(self._position)
        self.post_message(self.Marked())
        self.refresh()

    def action_open(self) -> None:
        if self.cursor is not None:
            self.post_message(self.Opened(self.cursor))

    def action_clear_marks(self) -> None:
        self.marked.clear()
        self.post_message(self.Marked())
        self.refresh()

    def _settle(self, at: int, towards: int = 1) -> None:
        """The cursor to the row at `at`, or the nearest row to it."""
        ahead = range(at, len(self.entries)) if towards > 0 else range(at, -1, -1)
        behind = range(at, -1, -1) if towards > 0 else range(at, len(self.entries))
        found = next(
            (i for i in (*ahead, *behind) if i < len(self.entries) and isinstance(self.entries[i], str)), None
        )
        chosen = None if found is None else str(self.entries[found])
        if chosen != self.cursor:
            for old in (self.cursor, chosen):
                if old in self._position:
                    self._refresh_at(self._position[old])
            self.cursor = chosen
            self.post_message(self.Moved(chosen))
        self._reveal()

    def _reveal(self) -> None:
        at = self._position.get(self.cursor or "")
        if at is None:
            return
        above = at - 1 if at and isinstance(self.entries[at - 1], Heading) else at
        top = self.scroll_offset.y
        self._scroll(above if above < top else max(top, at - self._page + 1))

    def _scroll(self, top: int) -> None:
        self.scroll_to(y=max(0, min(top, len(self.entries) - self._page)), animate=False, force=True)

    def _refresh_at(self, at: int) -> None:
        y = at + 1 - self.scroll_offset.y
        if 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def on_click(self, event: events.Click) -> None:
        at = event.y - 1 + self.scroll_offset.y
        if event.y >= 1 and at < len(self.entries) and isinstance(entry := self.entries[at], str):
            if entry == self.cursor and event.chain == 2:
                self.post_message(self.Opened(entry))
            self.action_move_to(at)
