"""Text to read while it grows: a log, an explanation. Draws only the visible lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fleet_client.folding import HELD_LINES
from fleet_tui.log import LogText
from fleet_tui.palette import look
from fleet_tui.reading import Pattern, Reading, Text, moment, widest

Typed = Literal["search", "keep", "time"]
CLOCK_CELLS = 9
REVERSED = Style(reverse=True)


class Pager(ScrollView, can_focus=True, inherit_bindings=False):
    """Follows the end of its text until the reader scrolls up; resumes at the end, or on `f`."""

    DEFAULT_CSS = "Pager { scrollbar-size: 1 1; }"
    BINDINGS = [
        Binding("down,j", "scroll_by(1)", "down", show=False),
        Binding("up,k", "scroll_by(-1)", "up", show=False),
        Binding("right,l", "scroll_across(8)", "right", show=False),
        Binding("left,h", "scroll_across(-8)", "left", show=False),
        Binding("home,g", "start", "first line", show=False),
        Binding("end,G", "follow", "follow", show=False),
        Binding("f", "follow", "follow"),
        Binding("pagedown,ctrl+f", "scroll_pages(2)", "page down", show=False),
        Binding("pageup,ctrl+b", "scroll_pages(-2)", "page up", show=False),
        Binding("ctrl+d", "scroll_pages(1)", "half a page down", show=False),
        Binding("ctrl+u", "scroll_pages(-1)", "half a page up", show=False),
        Binding("n", "next(1)", "next match", show=False),
        Binding("N", "next(-1)", "match before", show=False),
        Binding("ampersand", "ask('keep')", "only lines with"),
        Binding("at", "ask('time')", "to a time"),
        Binding("w", "wrap", "wrap"),
        Binding("t", "stamps", "times"),
        Binding("p", "turn(-1)", "earlier attempt"),
        Binding("P", "turn(1)", "later attempt", show=False),
        Binding("ctrl+s", "save(False)", "save what is shown", show=False),
        Binding("S", "save(True)", "save the whole log", show=False),
    ]

    @dataclass
    class FollowChanged(Message):
        following: bool

    @dataclass
    class Asked(Message):
        """The reader wants to type what to search for, which lines to keep, or a time to go to."""

        what: Typed

    @dataclass
    class Told(Message):
        """A sentence for the reader; none when it is empty."""

        sentence: str

    @dataclass
    class Turned(Message):
        """To the attempt before (-1) or after (1) this one."""

        step: int

    @dataclass
    class Saved(Message):
        """To a file: the rows as they are read, or every byte there is."""

        whole: bool

    def __init__(self, *, id: str) -> None:  # noqa: A002  (Textual's name)
        super().__init__(id=id)
        self.reading = Reading(())
        self.following = True
        self.wraps = self.stamps = False
        self._sought: Pattern | None = None
        self._measured = 0
        self._widest = 0

    def show(self, text: Text, *, follow: bool) -> None:
        """Another text, from its beginning or, following, from its end; what is searched for stays."""
        keep = self.reading.keep if isinstance(text, LogText) and isinstance(self.text, LogText) else None
        self.virtual_size = Size(0, 0)
        # At once: a moment later it would lead away from the new text's end.
        self.scroll_to(0, 0, animate=False, force=True, immediate=True)
        self.reading, self._widest = Reading(text), 0
        self._set_following(follow)
        self._read_anew(keep=keep)

    @property
    def text(self) -> Text:
        return self.reading.text

    @property
    def rows(self) -> int:
        return self.reading.rows

    @property
    def shown(self) -> list[str]:
        """The rows as they are read."""
        return [self.reading.part(row) for row in range(self.rows)]

    @property
    def words(self) -> str:
        """What the reader asked for, in a few words."""
        keep = self.reading.keep
        kept = f"only {'not ' * keep.inverse}{keep.typed}" if keep else ""
        return "  ".join(filter(None, (f"/{self._sought.typed}" if self._sought else "", kept)))

    def grown(self, dropped: int = 0) -> None:
        """The text has more lines at its end and lost `dropped` at its beginning; what is read stays put."""
        top = self._top
        start = 0 if dropped else max(0, self._measured - HELD_LINES - 1)
        self.reading.grown(dropped)
        self._widest = max(self._widest, widest(self.text, start))
        self._measured = len(self.text)
        self._fit()
        if self.following:
            self._to_end()
        elif dropped:
            self._to_line(max(0, top - dropped))
        self.refresh()

    def _read_anew(self, *, keep: Pattern | None) -> None:
        """Lines are kept or broken in another way: the line at the top stays there."""
        top = self._top
        self.reading.set(keep=keep, wrap=self._room if self.wraps else 0)
        self._widest, self._measured = widest(self.text, 0), len(self.text)
        self._fit()
        if self.following:
            self._to_end()
        else:
            self._to_line(top)
        self.refresh()

    def _fit(self) -> None:
        width = 0 if self.wraps else self._widest + self._margin
        self.virtual_size = Size(width, self.rows)

    @property
    def _margin(self) -> int:
        """Cells in front of each row."""
        return 1 + (CLOCK_CELLS if self.stamps and isinstance(self.text, LogText) else 0)

    @property
    def _room(self) -> int:
        return max(1, self.scrollable_content_region.width - self._margin)

    @property
    def _top(self) -> int:
        """The line at the upper edge."""
        row = self.scroll_offset.y
        return self.reading.at(row)[0] if row < self.rows else len(self.text)

    def render_line(self, y: int) -> Strip:
        width, base = self.scrollable_content_region.width, self.rich_style
        row = y + self.scroll_offset.y
        if row >= self.rows:
            return Strip.blank(width, base)
        line, part = self.reading.at(row)
        tones = look(self.app).tones
        plain = base if self.reading.is_hit(line) else base + tones["dim"]
        stamp = " " + self._stamp(line, part)
        x = self.scroll_offset.x
        segments = [Segment(stamp, base + tones["dim"]), *self._marked(self.reading.part(row), plain)]
        return Strip(segments).crop_extend(x, x + width, base)

    def _stamp(self, line: int, part: int) -> str:
        if self._margin == 1 or not isinstance(self.text, LogText):
            return ""
        came = 0.0 if part else self.text.came(line)
        return datetime.fromtimestamp(came).astimezone().strftime("%H:%M:%S ") if came else " " * CLOCK_CELLS

    def _marked(self, text: str, style: Style) -> Iterable[Segment]:
        """The text with what is searched for reversed."""
        at = 0
        for found in self._sought.finder().finditer(text) if self._sought else ():
            if found.end() > found.start():
                yield Segment(text[at : found.start()], style)
                yield Segment(found[0], style + REVERSED)
                at = found.end()
        yield Segment(text[at:], style)

    def on_resize(self) -> None:
        if self.wraps and self.reading.wrap != self._room:
            self._read_anew(keep=self.reading.keep)
        if self.following:
            self._to_end()

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        if shown:  # Textual tells a scrollbar only of movements that it was there to see
            self.vertical_scrollbar.position = self.scroll_y

    def watch_show_horizontal_scrollbar(self, shown: bool) -> None:
        self.call_after_refresh(self._keep_end)  # it takes a row away, or gives one back

    def _keep_end(self) -> None:
        if self.following:
            self._to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and new_value < self._end:
            self._set_following(False)
        elif new_value >= self._end:
            self._set_following(True)

    @property
    def bottom(self) -> int:
        """The number of the last line that is seen."""
        return min(self.rows, self.scroll_offset.y + self.scrollable_content_region.height)

    @property
    def _end(self) -> int:
        return max(0, self.rows - self.scrollable_content_region.height)

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

    def entered(self, what: Typed, typed: str, now: datetime) -> str:
        """What was typed for one of the questions; a sentence where it leads nowhere."""
        if what == "keep":
            self._read_anew(keep=Pattern.of(typed))
            return "" if self.rows or not typed else f"no line has {typed}"
        if what == "search":
            self._sought = Pattern.of(typed)
            self.refresh()
            return self._search(1) if self._sought else ""
        if (at := moment(typed, now)) is None:
            return "that is no time; as in 14:03, 2026-05-04 14:03 or 10m"
        if not isinstance(self.text, LogText):
            return "only a log has times"
        self._to_line(self.text.since(at))
        return ""

    def _search(self, step: int) -> str:
        if self._sought is None:
            return "nothing was searched for yet: press /"
        start = self._top if step < 0 or not self.following else 0
        found = self.reading.next_match(self._sought, start - (step > 0 and self.following), step)
        if found is None:
            return f"nothing has {self._sought.typed}"
        self._set_following(False)
        self._to_line(found)
        return ""

    def _to_line(self, line: int) -> None:
        self.scroll_to(y=min(self.reading.row_of(line), self._end), animate=False, force=True)

    def action_next(self, step: int) -> None:
        self.post_message(self.Told(self._search(step)))

    def action_ask(self, what: Typed) -> None:
        self.post_message(self.Asked(what))

    def action_wrap(self) -> None:
        self.wraps = not self.wraps
        self.scroll_to(x=0, animate=False, force=True)
        self._read_anew(keep=self.reading.keep)

    def action_stamps(self) -> None:
        self.stamps = not self.stamps
        self._read_anew(keep=self.reading.keep)

    def action_turn(self, step: int) -> None:
        self.post_message(self.Turned(step))

    def action_save(self, whole: bool) -> None:
        self.post_message(self.Saved(whole))
