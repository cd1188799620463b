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
        Binding("V", "mark_range", "mark a range", show=False),
        Binding("asterisk", "mark_all", "mark all listed", show=False),
        Binding("backslash", "clear_marks", "clear the marks", show=False),
        Binding("down,j", "move(1)", "down, up", show=False),
        Binding("up,k", "move(-1)", "down, up", show=False),
        Binding("home,g", "move_to(0)", "first, last", show=False),
        Binding("end,G", "move_to(-1)", "first, last", show=False),
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
        self._range: tuple[str, frozenset[str]] | None = None
        """Where a range of marks that is still open began, and what was marked before it."""
        self._touched = False
        self._listing: Listing | None = None
        self._drawn_width = 0
        self._drawn: dict[Entry | None, Line] = {}
        """Of what is visible; the title's entry is None."""

    def show(self, listing: Listing) -> None:
        """Show these rows. Cursor and reading position stay with the cursor's id.

        Until the operator moves the cursor it stays on the first row, so that what is most urgent is seen.
        """
        self._keep_width()
        before, top, above = self._at(self.cursor), self.scroll_offset.y, self.entries
        line = None if before is None else before - top
        self._listing, self.entries = listing, list(listing.entries)
        self.virtual_size = Size(0, len(self.entries) + 1)
        if self._touched and line is not None and (at := self._at(self.cursor)) is not None:
            self._scroll(at - line)
        else:
            self._settle(before if self._touched and before is not None else 0)
        if not above or not self.entries:
            self._drawn.clear()
            self.refresh()
        elif top == self.scroll_offset.y:  # else all of it is drawn anyway
            self._redraw_moved(above)

    def redraw(self, ids: set[str] | None = None) -> None:
        """Draw visible rows again where their text changed; `ids` limits what is looked at."""
        self._keep_width()
        for at in self._visible(self.entries):
            entry = self.entries[at]
            if isinstance(entry, str) and (ids is None or entry in ids):
                self._redraw_at(at)

    def _redraw_moved(self, above: list[Entry]) -> None:
        """Draw lines again that another row has now, or whose text changed."""
        title = self._title()
        if self._drawn.get(None) != title:
            self._drawn[None] = title
            self.refresh(Region(0, 0, self.scrollable_content_region.width, 1))
        for at in self._visible(above if len(above) > len(self.entries) else self.entries):
            stood = above[at] if at < len(above) else None
            stands = self.entries[at] if at < len(self.entries) else None
            if stands is None or stands != stood:
                self._refresh_at(at)
            if stands is not None:
                self._redraw_at(at)
        seen = {self.entries[at] for at in self._visible(self.entries)}
        self._drawn = {entry: line for entry, line in self._drawn.items() if entry is None or entry in seen}

    def _redraw_at(self, at: int) -> None:
        entry = self.entries[at]
        line = self._line(entry)
        if self._drawn.get(entry) != line:
            self._drawn[entry] = line
            self._refresh_at(at)

    def _visible(self, entries: list[Entry]) -> range:
        top = self.scroll_offset.y
        return range(top, min(top + self._page, len(entries)))

    def _at(self, row_id: str | None) -> int | None:
        try:
            return None if row_id is None else self.entries.index(row_id)
        except ValueError:
            return None

    @property
    def _page(self) -> int:
        return max(1, self.scrollable_content_region.height - 1)

    @property
    def _width(self) -> int:
        """Cells of a row's own line: beside the cursor's mark on its left and a blank on its right."""
        return max(0, self.scrollable_content_region.width - 3)

    def _line(self, entry: Entry) -> Line:
        if self._listing is None:
            return []
        draw = self._listing.heading if isinstance(entry, Heading) else self._listing.line
        return draw(entry, self._width)  # type: ignore[arg-type]  # each is given what it draws

    def _title(self) -> Line:
        return self._listing.title(self._width) if self._listing else []

    def render_line(self, y: int) -> Strip:
        self._keep_width()
        at = y - 1 + self.scroll_offset.y
        base, shown = self.rich_style, look(self.app)
        if y == 0:
            line: Line = [("  ", "plain"), *self._kept(None)]
        elif at < len(self.entries):
            entry = self.entries[at]
            bar = "▌" if entry == self.cursor else " "
            mark = "+" if entry in self.marked else " "
            line = [(bar + mark, "accent"), *self._kept(entry)]
            if entry == self.cursor:
                base += shown.cursor
        else:
            said = self._listing.empty if self._listing and not self.entries else ()
            line = [("  ", "plain"), (said[y - 2], "dim")] if 2 <= y < 2 + len(said) else []
        return strip(line, self.scrollable_content_region.width, base, shown)

    def _keep_width(self) -> None:
        """Lines drawn while the list was out of sight, and of no width, are no lines."""
        if self._drawn_width != self._width:
            self._drawn_width = self._width
            self._drawn.clear()

    def _kept(self, entry: Entry | None) -> Line:
        if entry not in self._drawn:
            self._drawn[entry] = self._title() if entry is None else self._line(entry)
        return self._drawn[entry]

    def on_resize(self) -> None:
        self._drawn.clear()
        self._scroll(self.scroll_offset.y)
        self._reveal()

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        if shown:  # Textual tells a scrollbar only of movements that it was there to see
            self.vertical_scrollbar.position = self.scroll_y

    def action_move(self, by: int) -> None:
        self.action_move_to((self._at(self.cursor) or 0) + by, -1 if by < 0 else 1)

    def action_move_pages(self, halves: int) -> None:
        self.action_move(halves * max(1, self._page // 2))

    def action_move_to(self, at: int, towards: int = 1) -> None:
        """Put the cursor on entry `at` (negative from the end only for -1), or the next row beside a heading."""
        self._touched = True
        last = len(self.entries) - 1
        self._settle(last if at == -1 and towards == 1 else min(max(at, 0), max(last, 0)), towards)

    @property
    def marks(self) -> str:
        """`+3` for three marked rows, `V +3` while a range of them is open; empty for none."""
        return "V " * (self._range is not None) + f"+{len(self.marked)}" if self.marked else ""

    @property
    def chosen(self) -> list[str]:
        """The marked rows in the order of the list, those that a filter hides last; else the cursor's."""
        if not self.marked:
            return [self.cursor] if self.cursor else []
        at = {entry: nth for nth, entry in enumerate(self.entries) if entry in self.marked}
        return sorted(self.marked, key=lambda row_id: (at.get(row_id, len(self.entries)), row_id))

    @property
    def shows_end(self) -> bool:
        """Whether the last row is on the screen."""
        return self.scroll_offset.y + self._page >= len(self.entries)

    def action_mark_range(self) -> None:
        """Marks from here to wherever the cursor goes, until it is pressed again."""
        self._range = (self.cursor, frozenset(self.marked)) if self.cursor and not self._range else None
        self._extend()
        self.post_message(self.Marked())

    def _extend(self) -> None:
        start, before = self._range or (None, frozenset())
        if (one := self._at(start)) is not None and (other := self._at(self.cursor)) is not None:
            between = self.entries[min(one, other) : max(one, other) + 1]
            self.marked = {*before, *(entry for entry in between if isinstance(entry, str))}
            self.refresh()

    def action_mark(self) -> None:
        self._range = None
        if self.cursor is not None:
            self.marked ^= {self.cursor}
            self.post_message(self.Marked())
            self.action_move(1)

    def action_mark_all(self) -> None:
        self._range = None
        self.marked.update(entry for entry in self.entries if isinstance(entry, str))
        self.post_message(self.Marked())
        self.refresh()

    def action_open(self) -> None:
        if self.cursor is not None:
            self.post_message(self.Opened(self.cursor))

    def action_clear_marks(self) -> None:
        self.marked.clear()
        self._range = None
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
            if (left := self._at(self.cursor)) is not None:
                self._refresh_at(left)
            if found is not None:
                self._refresh_at(found)
            self.cursor = chosen
            self._extend()
            self.post_message(self.Moved(chosen))
        self._reveal()

    def _reveal(self) -> None:
        at = self._at(self.cursor)
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
            self.refresh(Region(0, y, self.scrollable_content_region.width, 1))

    def on_click(self, event: events.Click) -> None:
        at = event.y - 1 + self.scroll_offset.y
        if event.y >= 1 and at < len(self.entries) and isinstance(entry := self.entries[at], str):
            if entry == self.cursor and event.chain == 2:
                self.post_message(self.Opened(entry))
            self.action_move_to(at)
