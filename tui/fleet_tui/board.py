"""The one screen: header, tabs, a list, the selected row's detail. Draws what the store says; asks nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Input

from fleet_protocol.workers import WorkerView
from fleet_tui import facts, listings, shown
from fleet_tui.actions import READ_ONLY, Order, Verb, order_for
from fleet_tui.curves import Curves, Turn
from fleet_tui.inspector import Inspector
from fleet_tui.keys import BOARD_KEYS, hints, key_list
from fleet_tui.query import FilterError
from fleet_tui.store import Changes, JobRow, Store
from fleet_tui.text import Line, joined, line_width, spread
from fleet_tui.transport import Access
from fleet_tui.views import LISTS, SAMPLES, VIEWS, Subject, View, Views
from fleet_tui.widgets.detail import Detail, ruled
from fleet_tui.widgets.dialogs import Help
from fleet_tui.widgets.line import Lines
from fleet_tui.widgets.pager import Pager, Typed
from fleet_tui.widgets.rows import Rows

RESULT_SECONDS = 15.0
QUESTIONS: dict[Typed, str] = {
    "search": "search the text, as a regular expression; n and N go on",
    "keep": "only lines with this, and what is around them; ! in front: only lines without",
    "time": "go to 14:03, 2026-05-04 14:03 or 10m (ago)",
}
TYPING_HINTS: Line = [("⏎", "accent"), (" keep the filter   ", "dim"), ("Esc", "accent"), (" drop it", "dim")]


class Board(Screen[None], inherit_bindings=False):
    """Three lists of one fleet. Says what was selected and what was ordered; the program does the rest."""

    LAYOUT = """
    #header, #tabs, #hints, #result { padding: 0 1; }
    .tall #tabs { margin: 1 0; }
    .tall #hints { margin: 1 0 0 0; }
    #lists { height: 50%; }
    Rows { height: 1fr; }
    Rows, Pager { scrollbar-background: $background; scrollbar-background-hover: $background;
                  scrollbar-background-active: $background; scrollbar-corner-color: $background; }
    #filter { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    #result { display: none; }
    #plot { height: 1fr; padding: 0 1; display: none; }
    .metrics #plot { display: block; }
    .metrics Detail, .opened #lists, .low Detail, .workers #rule, .workers #text { display: none; }
    .opened Detail { display: block; }
    .opened.metrics Detail { display: none; }
    """
    BINDINGS = BOARD_KEYS

    @dataclass
    class Selected(Message):
        """The cursor is on this job now, or its row changed."""

        row: JobRow | None

    @dataclass
    class Ordered(Message):
        """To be confirmed, then carried out."""

        order: Order

    class Compared(Message):
        """Curves have to be asked for."""

    def __init__(self, store: Store, inspector: Inspector, access: Access, clock: listings.Clock) -> None:
        super().__init__()
        self.link = facts.Link()
        self._store, self._inspector, self._access, self._clock = store, inspector, access, clock
        self.views = Views()
        self._result_timer: Timer | None = None
        self._typing: Typed | None = None
        """What the field is for: a question of the text's; None is the list's filter."""
        self._tab_ends: list[int] = []
        # Held rather than looked up: what arrives while the screen goes away draws into nothing, without harm.
        self._header, self._tabs, self._result, self._hints = (
            Lines(id=name) for name in ("header", "tabs", "result", "hints")
        )
        self._lists = {name: Rows(id=name) for name in LISTS}
        self._switcher = ContentSwitcher(*self._lists.values(), initial="jobs", id="lists")
        self._detail = Detail()
        self.curves = Curves(self._draw_plot)
        self._plot = Lines(id="plot")
        self._plot.can_focus = True
        self._field = Input(id="filter", compact=True)

    def compose(self) -> ComposeResult:
        yield from (self._header, self._tabs, self._switcher, self._detail)
        yield from (self._plot, self._result, self._field, self._hints)

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)
        self.set_focus(self.rows)

    @property
    def rows(self) -> Rows:
        return self._lists[self.views.listed]

    @property
    def subject(self) -> Subject | None:
        """What the row under the cursor is about."""
        found = self.views.subjects(self._store, [self.rows.cursor or ""])
        return found[0] if found else None

    @property
    def selected(self) -> JobRow | None:
        return subject if isinstance(subject := self.subject, JobRow) else None

    def show_changes(self, changes: Changes) -> None:
        """Draw what moved in the store, and nothing else."""
        if self.views.is_touched(changes):
            self.relist()
        else:
            self.rows.redraw(changes.jobs)
        if changes:
            self._draw_header()
            self._draw_tabs()
            self._select()

    def show_link(self, link: facts.Link) -> None:
        self.link = link
        self._draw_header()
        if self._store.cursor is None:
            self.relist()

    def say(self, sentence: str, *, ok: bool = True) -> None:
        """The result line; it goes by itself."""
        line = self._result
        line.display = bool(sentence)
        line.show([("✓ " if ok else "✗ ", "good" if ok else "bad"), (sentence, "plain")])
        if self._result_timer is not None:
            self._result_timer.stop()
        if sentence:
            self._result_timer = self.set_timer(RESULT_SECONDS, lambda: self.say(""))

    def relist(self) -> None:
        """Work the list out anew: rows, order, columns."""
        listing = self.views.listing(self._store, self._now)
        if self._store.cursor is None:
            listing = listings.unconnected(listing, self._access.url, self.link.why)
        # The list takes what all its rows need and at most half; a filter does not move what is below it.
        lists = self._switcher
        room = self._hints.region.y - lists.region.y
        share = room if self.has_class("low") else room // 2
        lists.styles.height = max(5, min(share, listing.total + 2))
        self.rows.show(listing)
        self._draw_tabs()

    def _now(self) -> datetime:
        return self._store.server_now(self._clock())

    def _tick(self) -> None:
        self._draw_header()
        self.rows.redraw()
        if self.views.view != "metrics":
            self.draw_detail()

    def _draw_header(self) -> None:
        width = self.size.width - 2
        link = facts.link_line(self.link, self._store.told_at, self._clock())
        if self._access.read_only:
            link = [("read-only · ", "dim"), *link]
        self._header.show(facts.header_line(self._store, link, width))

    def _draw_tabs(self) -> None:
        views = self.views
        shown: Line = [(f"/{views.typed}", "accent")] if views.typed else []
        order: Line = [(f"sort {views.sort}{' reversed' * views.descending}", "dim")] * views.is_sorted
        right = joined(shown, order, gap="   ")
        width = self.size.width - 2
        tabs, self._tab_ends = facts.tabs_line(self._store, VIEWS, views.view, width - line_width(right) - 2)
        self._tabs.show(spread(tabs, right, width))

    def draw_detail(self) -> None:
        """The lower half, for the row under the cursor."""
        if self.views.view == "metrics":
            self._draw_plot()
            return
        now, width = self._now(), self._detail.size.width - 4
        told = shown.NOTHING
        match self.subject:
            case JobRow() as row:
                told = shown.of_job(row, self._inspector, now, width)
            case WorkerView() as worker:
                told = shown.of_worker(worker, self._store, now)
        is_worker = isinstance(self.subject, WorkerView)
        self.set_class(is_worker, "workers")
        self._detail.show(
            told, 20 if self.has_class("opened") or is_worker else max(2, self.size.height // 7)
        )

    def _draw_plot(self) -> None:
        width, height = self._plot.size.width - 2, self._plot.size.height
        title = ruled(self.curves.title(), [], width)
        self._plot.show(title, *self.curves.drawing(width, height - 1))

    def _select(self) -> None:
        """What the cursor is on now, or the marks, may ask for more."""
        if self.views.view != "metrics":
            self.post_message(self.Selected(self.selected))
            return
        subjects = self.views.subjects(self._store, self.rows.marked or [self.rows.cursor or ""])
        if self.curves.look_at([one for one in subjects if isinstance(one, JobRow)]):
            self.post_message(self.Compared())
        self._draw_plot()

    @property
    def pager(self) -> Pager:
        return self._detail.pager

    @property
    def shown_text(self) -> list[str]:
        """The rows of the text as they are read."""
        reading = self._detail.pager.reading
        return [reading.part(row) for row in range(reading.rows)]

    def text_grew(self, dropped: int) -> None:
        pager = self._detail.pager
        if pager.text is self._inspector.log:
            pager.grown(dropped)
        self.draw_detail()

    def _draw_hints(self) -> None:
        typing = isinstance(self.focused, Input)
        line = TYPING_HINTS if typing else hints(self, self.size.width - 2)
        self._hints.show(line)

    def on_resize(self) -> None:
        self.set_class(self.size.height < 16, "low")
        self.set_class(self.size.height >= 30, "tall")
        self.call_after_refresh(self._draw_all)

    def _draw_all(self) -> None:
        self._draw_header()
        self.relist()
        self.draw_detail()
        self._draw_hints()

    def on_descendant_focus(self) -> None:
        self._draw_hints()

    @on(Rows.Moved)
    @on(Rows.Marked)
    def _on_moved(self) -> None:
        self._select()

    @on(Rows.Opened)
    def _on_opened(self) -> None:
        self.add_class("opened")
        self.set_focus(self._plot if self.views.view == "metrics" else self._detail.pager)
        self.call_after_refresh(self.draw_detail)

    @on(Pager.FollowChanged)
    def _on_follow_changed(self) -> None:
        self.draw_detail()

    @on(Lines.Clicked, "#tabs")
    def _on_tab_clicked(self, event: Lines.Clicked) -> None:
        for view, end in zip(VIEWS, self._tab_ends, strict=True):
            if event.x <= end:
                self.action_view(view)
                return

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that mean nothing in the list of workers are not offered there; typing a filter is typing."""
        if isinstance(self.focused, Input) and action in ("view", "filter"):
            return False
        return self.views.offers(action, *parameters)

    def action_view(self, view: View) -> None:
        self.views.view = view
        self._switcher.current = self.views.listed
        self.remove_class("opened")
        self.set_class(view == "metrics", "metrics")
        self.set_focus(self.rows)
        self._set_filter(self.views.typed)
        self._draw_hints()

    def action_sort(self) -> None:
        self.views.next_sort()
        self.relist()

    def action_reverse(self) -> None:
        self.views.descending = not self.views.descending
        self.relist()

    def action_why(self) -> None:
        if self.selected is not None:
            self._inspector.choice = "log" if self._inspector.shows(self.selected) == "why" else "why"
            self.draw_detail()

    def action_curves(self) -> None:
        if self.selected is not None:
            self._inspector.choice = None if self._inspector.shows(self.selected) == "curves" else "curves"
            self._select()

    def action_plot(self, what: Turn) -> None:
        self.curves.turn(what)
        self._draw_plot()

    def action_help(self) -> None:
        self.app.push_screen(Help(key_list(self)))

    def action_next_row(self, step: int) -> None:
        """Another row without leaving what is read of it."""
        self.rows.action_move(step)

    def action_order(self, verb: Verb, alike: bool = False) -> None:
        """Of the marked rows, else of the one under the cursor; `alike`: of all under its heading."""
        if alike:
            ids: Iterable[str] = listings.alike(self.views.listing(self._store, self._now), self.rows.cursor)
        else:
            ids = self.rows.marked or [self.rows.cursor or ""]
        subjects = self.views.subjects(self._store, ids)
        targets = [one.job if isinstance(one, JobRow) else one for one in subjects]
        order = READ_ONLY if self._access.read_only else order_for(verb, targets)
        if isinstance(order, Order):
            self.post_message(self.Ordered(order))
        else:
            self.say(order, ok=False)

    def action_step_out(self) -> None:
        """One step back: out of the typed filter, the opened detail, the text, the filter, the marks."""
        field = self._field
        if field.display:
            if self._typing is None:
                field.value = ""
            self._close_field()
        elif self.has_class("opened") or not self.rows.has_focus:
            self.remove_class("opened")
            self.set_focus(self.rows)
        elif self.views.typed:
            self._set_filter("")
        else:
            self.rows.action_clear_marks()

    def action_filter(self) -> None:
        if self._detail.pager.has_focus:
            self._ask_reader(Pager.Asked("search"))
        else:
            self._open_field(None, self.views.typed, SAMPLES[self.views.listed])

    @on(Pager.Asked)
    def _ask_reader(self, event: Pager.Asked) -> None:
        self._open_field(event.what, "", QUESTIONS[event.what])

    def _open_field(self, typing: Typed | None, value: str, placeholder: str) -> None:
        field, self._typing = self._field, typing
        field.value, field.placeholder = value, placeholder
        field.display = True
        self.set_focus(field)

    @on(Input.Changed, "#filter")
    def _on_filter_typed(self, event: Input.Changed) -> None:
        if self._typing is None and (event.input.display or not event.value):
            self._set_filter(event.value)

    @on(Input.Submitted, "#filter")
    def _on_filter_entered(self) -> None:
        if self._typing is not None:
            now = self._now()
            self._tell(Pager.Told(self._detail.pager.entered(self._typing, self._field.value, now)))
        self._close_field()

    def _close_field(self) -> None:
        self._field.display = False
        self.set_focus(self.rows if self._typing is None else self._detail.pager)
        self.draw_detail()

    @on(Pager.Told)
    def _tell(self, event: Pager.Told) -> None:
        self.say(event.sentence, ok=False)

    def _set_filter(self, text: str) -> None:
        """Applied while it is typed; one that cannot be read changes nothing and says why."""
        try:
            self.views.set_filter(text)
        except FilterError as error:
            self.say(str(error), ok=False)
            return
        self.say("")
        self.relist()
        self._select()
        self.draw_detail()
