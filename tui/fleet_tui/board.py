"""The one screen: header, tabs, a list, the selected row's detail. Draws what the store says; asks nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input

from fleet_protocol.workers import WorkerView
from fleet_tui import facts, listings, shown
from fleet_tui.actions import READ_ONLY, Order, Verb, order_for
from fleet_tui.cells import ago
from fleet_tui.curves import Curves, Turn
from fleet_tui.inspector import Inspector
from fleet_tui.keys import BOARD_KEYS, hints, key_list
from fleet_tui.query import FilterError
from fleet_tui.store import Changes, JobRow, Store
from fleet_tui.transport import Access
from fleet_tui.views import LISTS, SAMPLES, Subject, View, Views
from fleet_tui.widgets.detail import Detail, ruled
from fleet_tui.widgets.dialogs import Help
from fleet_tui.widgets.field import QUESTIONS, Field
from fleet_tui.widgets.line import Lines
from fleet_tui.widgets.masthead import Masthead
from fleet_tui.widgets.pager import Pager
from fleet_tui.widgets.result import Result
from fleet_tui.widgets.rows import Rows


class Board(Screen[None], inherit_bindings=False):
    """Three lists of one fleet. Says what was selected and what was ordered; the program does the rest."""

    LAYOUT = """
    #header, #tabs, #hints, #result { padding: 0 1; }
    .tall #tabs { margin: 1 0; } .tall #hints { margin: 1 0 0 0; }
    #lists { height: 50%; }
    Rows { height: 1fr; }
    Rows, Pager { scrollbar-background: $background; scrollbar-background-hover: $background;
                  scrollbar-background-active: $background; scrollbar-corner-color: $background; }
    #plot { height: 1fr; display: none; } .metrics #plot { display: block; }
    .metrics Detail, .opened #lists, .low Detail, .workers #rule, .workers #text { display: none; }
    .opened Detail { display: block; } .opened.metrics Detail { display: none; }
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

    class Reached(Message):
        """The end of the list of events: older ones have to be asked for."""

    class Compared(Message):
        """Curves have to be asked for."""

    def __init__(
        self, store: Store, inspector: Inspector, access: Access, clock: listings.Clock, name: str = "fleet"
    ) -> None:
        super().__init__()
        self.link = facts.Link()
        self._inspector, self._access, self._clock = inspector, access, clock
        self._told = self._store = store
        """What is told, and what of it is shown: the same, or how it was when the operator stopped it."""
        self.paused_at: datetime | None = None
        self._followed = True
        self.views = Views()
        # Held rather than looked up: what arrives while the screen goes away draws into nothing, without harm.
        self._top = Masthead(name)
        self._result, self._hints = Result(id="result"), Lines(id="hints")
        self._lists = {name: Rows(id=name) for name in LISTS}
        self._switcher = ContentSwitcher(*self._lists.values(), initial="jobs", id="lists")
        self._detail = Detail()
        self.curves = Curves(self._draw_plot)
        self._plot = Lines(id="plot")
        self._plot.can_focus = True
        self._field = Field()

    def compose(self) -> ComposeResult:
        yield from (self._top, self._switcher, self._detail)
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
            self._list()
        else:
            self.rows.redraw(changes.jobs)
        if changes:
            self._top.soon(self._draw_top)
            self._select()

    def show_link(self, link: facts.Link) -> None:
        self.link = link
        self._draw_header()
        if self._store.cursor is None:
            self.relist()

    def say(self, sentence: str, *, ok: bool = True) -> None:
        """On the result line."""
        self._result.say(sentence, ok=ok)

    def relist(self) -> None:
        """Work the list out anew, and say how it is shown."""
        self._list()
        self._draw_tabs()

    def _list(self) -> None:
        """Rows, order, columns."""
        listing = self.views.listing(self._store, self._now)
        if self._store.cursor is None:
            listing = listings.unconnected(listing, self._access.url, self.link.why)
        # The list takes what all its rows need and at most half; a filter does not move what is below it.
        lists = self._switcher
        room = self._hints.region.y - lists.region.y
        share = room if self.has_class("low") else room // 2
        lists.styles.height = max(5, min(share, listing.total + 2))
        self.rows.show(listing)

    def _now(self) -> datetime:
        return self._store.server_now(self.paused_at or self._clock())

    def _tick(self) -> None:
        self._draw_header()
        self.rows.redraw()
        if self.views.view != "metrics":
            self.draw_detail()

    def _draw_top(self) -> None:
        self._draw_header()
        self._draw_tabs()

    def _draw_header(self) -> None:
        now = self._clock()
        link = facts.link_line(self.link, self._told.told_at, now, self._inspector.round_trip)
        if self.paused_at is not None:
            link = [(f"paused {ago(self.paused_at, now)}", "warn"), (" · ", "dim"), *link]
        if self._access.read_only:
            link = [("read-only · ", "dim"), *link]
        self._top.show_fleet(self._store, link, self.size.width)

    def _draw_tabs(self) -> None:
        self._top.show_views(self._store, self.views, self.rows.marks, self.size.width)

    def draw_detail(self) -> None:
        """The lower half, for the row under the cursor."""
        if self.views.view == "metrics":
            self._draw_plot()
            return
        if self._inspector.awaited and self._detail.is_of_a_job and self.selected is not None:
            return  # in one piece as soon as it is known, rather than empty first and then again
        now, width = self._now(), self._detail.size.width - 4
        told = shown.NOTHING
        match self.subject:
            case JobRow() as row:
                told = shown.of_job(row, self._inspector, now, width)
            case WorkerView() as worker:
                told = shown.of_worker(worker, self._store, now)
        is_worker = isinstance(self.subject, WorkerView)
        self._detail.is_of_a_job = self.selected is not None
        self.set_class(is_worker, "workers")
        self._detail.show(
            told, 20 if self.has_class("opened") or is_worker else max(2, self.size.height // 7)
        )

    def _draw_plot(self) -> None:
        width, height = self._plot.size
        drawing = self.curves.drawing(width - 2, height - 1)
        self._plot.show(ruled(self.curves.title(), [], width), *([(" ", "plain"), *line] for line in drawing))

    def _select(self) -> None:
        """What the cursor is on now, or the marks, may ask for more; so may the end of the events."""
        if self.views.view == "events" and self.rows.shows_end and self.paused_at is None:
            self.post_message(self.Reached())
        if self.views.view != "metrics":
            self.post_message(self.Selected(self.selected))
            return
        subjects = self.views.subjects(self._store, self.rows.chosen)
        if self.curves.look_at([one for one in subjects if isinstance(one, JobRow)]):
            self.post_message(self.Compared())
        self._draw_plot()

    @property
    def pager(self) -> Pager:
        return self._detail.pager

    def text_grew(self, dropped: int) -> None:
        pager = self._detail.pager
        if pager.text is self._inspector.log:
            pager.grown(dropped)
        self.draw_detail()

    def _draw_hints(self) -> None:
        self._hints.show(hints(self, self.size.width - 2))

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
        self._draw_tabs()
        self._select()

    @on(Rows.Opened)
    def _on_opened(self) -> None:
        self.add_class("opened")
        self.set_focus(self._plot if self.views.view == "metrics" else self._detail.pager)
        self.call_after_refresh(self.draw_detail)

    @on(Pager.FollowChanged)
    def _on_follow_changed(self) -> None:
        self.draw_detail()

    @on(Masthead.Chosen)
    def _on_view_chosen(self, event: Masthead.Chosen) -> None:
        self.action_view(event.view)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that mean nothing in the list of workers are not offered there; typing a filter is typing."""
        typed = ("view", "filter", "search") if isinstance(self.focused, Input) else ()
        hidden = ("sort", "reverse", "group") if self.has_class("opened") else ()
        if action in (*typed, *hidden):
            return False
        if action in ("filter", "search"):
            return self._detail.pager.has_focus is (action == "search")
        return self.views.offers(action, *parameters)

    def action_view(self, view: View) -> None:
        self.views.view = view
        self._switcher.current = self.views.listed
        self.remove_class("opened")
        self.set_class(view == "metrics", "metrics")
        self.set_focus(self.rows)
        self._set_filter(self.views.typed)
        self.call_after_refresh(self._draw_all)  # at the sizes that this view gives its parts

    def action_sort(self) -> None:
        self.views.next_sort()
        self.relist()

    def action_reverse(self) -> None:
        self.views.descending = not self.views.descending
        self.relist()

    def action_group(self) -> None:
        self.views.next_group()
        self.relist()

    def action_pause(self) -> None:
        """Everything stands still, text too, while it goes on arriving; or shows all at once what came meanwhile."""
        pager = self._detail.pager
        if self.paused_at is None:
            self.paused_at, self._store = self._clock(), self._told.still()
            self._followed, pager.following = pager.following, False
        else:
            self.paused_at, self._store = None, self._told
            if self._followed:
                pager.action_follow()
        self._draw_all()
        self._select()

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
            ids = self.rows.chosen
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
            if field.typing is None:
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
        self._field.open(None, self.views.typed, SAMPLES[self.views.listed])

    def action_search(self) -> None:
        self._ask_reader(Pager.Asked("search"))

    @on(Pager.Asked)
    def _ask_reader(self, event: Pager.Asked) -> None:
        self._field.open(event.what, "", QUESTIONS[event.what])

    @on(Input.Changed, "#filter")
    def _on_filter_typed(self, event: Input.Changed) -> None:
        if self._field.typing is None and (event.input.display or not event.value):
            self._set_filter(event.value)

    @on(Input.Submitted, "#filter")
    def _on_filter_entered(self) -> None:
        if (typing := self._field.typing) is not None:
            self._tell(Pager.Told(self._detail.pager.entered(typing, self._field.value, self._now())))
        self._close_field()

    def _close_field(self) -> None:
        self._field.display = False
        self.set_focus(self.rows if self._field.typing is None else self._detail.pager)
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
