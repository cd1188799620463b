"""The dashboard's program: the link to the coordinator, what is asked of it, and how the program ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from textual import on
from textual.binding import Binding
from textual.filter import LineFilter
from textual.timer import Timer

from fleet_client.errors import FleetError, NotAuthenticated, NotPermitted
from fleet_protocol.events import SnapshotFrame
from fleet_tui.actions import Order, carry_out
from fleet_tui.board import Board
from fleet_tui.commands import Commands
from fleet_tui.facts import Link
from fleet_tui.hands import Hands
from fleet_tui.inspector import Inspector, Need
from fleet_tui.listings import Clock
from fleet_tui.outside import give_back
from fleet_tui.pace import Pace
from fleet_tui.palette import DARK, LIGHT, Ascii
from fleet_tui.query import GROUPS, SORTS
from fleet_tui.saving import free_path, write_lines, write_pieces
from fleet_tui.settings import UNTOUCHED, Settings
from fleet_tui.store import Frame, Store
from fleet_tui.transport import Access, Coordinator, Waiting, follow_events, whole_log
from fleet_tui.views import VIEWS
from fleet_tui.widgets.dialogs import Confirm
from fleet_tui.widgets.pager import Pager

PAGE_EVENTS = 200
"""So many are asked for at once on the way back through the history."""
MANY = 1000
"""Jobs of a snapshot that takes some memory to read."""
NO_CONTEXTS: Mapping[str, Callable[[], Access]] = {}


class FleetTui(Hands, inherit_bindings=False):
    """Jobs, failures and workers of one fleet, live."""

    CSS = Board.LAYOUT
    SETTLE_SECONDS = 0.045
    """The cursor rests this long on a row before its log is asked for: a key that is held down asks nothing."""
    GATHER_SECONDS = 0.01
    """A text that begins to come after a rest is drawn so soon: a log's end is there in one piece."""
    PATIENCE_SECONDS = 0.3
    """What was shown of the job before is shown so long for want of an answer about this one."""
    COMMANDS = {Commands}
    BINDINGS = [
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("q", "quit", "quit"),
        *Hands.BINDINGS,
    ]

    def __init__(
        self,
        access: Access,
        *,
        clock: Clock = lambda: datetime.now(UTC),
        settings: Settings = UNTOUCHED,
        pace: Pace | None = None,
        contexts: Mapping[str, Callable[[], Access]] = NO_CONTEXTS,
        context: str = "",
    ) -> None:
        """`contexts` are the ways to the fleets that have a name, and `context` is the one that `access` leads to."""
        # With NO_COLOR Textual turns colours into greys; only in its ANSI mode it sends none at all.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self.clock, self.contexts = clock, contexts
        self._settings, self._pace = settings, pace or Pace()
        self._ascii = Ascii(settings.ascii)
        self.refusal: str | None = None
        """Why the program had to end, for whoever started it."""
        self._asking: Timer | None = None
        self._asked_at = 0.0
        self._begin(access, context)

    def _begin(self, access: Access, context: str) -> None:
        """Nothing is known yet of the fleet that `access` leads to."""
        self.access, self.context = access, context
        self.store = Store()
        self.inspector = Inspector(self._inspected, self._text_grew, lambda: self.clock().timestamp())
        whose = context if len(self.contexts) > 1 and context else "fleet"
        self.board = Board(self.store, self.inspector, access, self.clock, whose)
        self._coordinator: Coordinator | None = None
        self._flush_due = self._text_due = False
        self._text_shown_at = 0.0
        self._dropped = 0
        self._asked_before: int | None = None
        self._needs: set[Need] = set()

    async def action_context(self, name: str) -> None:
        """Another fleet: another link, and nothing left of the one before; looked at in the same way."""
        try:
            access = self.contexts[name]()
        except FleetError as error:
            self.board.say(f"{error} {error.next or ''}".strip(), ok=False)
            return
        self._settings = self.settings
        self.workers.cancel_node(self)
        if self._asking is not None:
            self._asking.stop()
            self._asking = None
        if not self.screen._result_callbacks:  # Textual takes one away, which its first screen does not have
            self.screen._push_result_callback(self, None)
        self._begin(access, name)
        await self.switch_screen(self.board)
        self._restore()
        self.run_worker(self._feed(), group="feed")

    def on_load(self) -> None:
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = self._settings.theme if self._settings.theme in self.available_themes else DARK.name
        self.animation_level = "none"
        for name in ("SIGTERM", "SIGHUP"):
            with suppress(NotImplementedError, AttributeError):  # Windows has neither
                asyncio.get_running_loop().add_signal_handler(getattr(signal, name), self.exit)

    @property
    def settings(self) -> Settings:
        """As the operator leaves them."""
        views, pager = self.board.views, self.board.pager
        return replace(
            self._settings,
            theme=self.theme,
            view=views.view,
            sort=views.sort,
            descending=views.descending,
            group=views.group,
            wrap=pager.wraps,
            stamps=pager.stamps,
        )

    def _restore(self) -> None:
        """View, order and the way to read as they were left."""
        kept, views, pager = self._settings, self.board.views, self.board.pager
        if kept.sort in SORTS:
            views.sort, views.descending = kept.sort, kept.descending
        views.group = kept.group if kept.group in GROUPS else ""
        pager.wraps, pager.stamps = kept.wrap, kept.stamps
        if kept.view in VIEWS:
            self.board.action_view(kept.view)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), *([self._ascii] if self._ascii.enabled else [])]

    def on_app_blur(self) -> None:
        self._pace.focused = False

    def on_app_focus(self) -> None:
        self._pace.focused = True
        self._show_changes()

    def get_default_screen(self) -> Board:
        return self.board

    def on_mount(self) -> None:
        if not self.is_headless:
            self.set_interval(1.0, self._look_for_terminal)
        if self._settings != UNTOUCHED:
            self.call_after_refresh(self._restore)
        self.call_after_refresh(lambda: self.run_worker(self._feed(), group="feed"))

    def _look_for_terminal(self) -> None:
        """One that is gone says nothing: reading it would go round for ever, and writing block."""
        if not sys.stdin.isatty():
            self.exit(return_code=1)

    async def _feed(self) -> None:
        """The one link to the coordinator, for as long as the program runs and its token is accepted."""
        while True:
            try:
                async with self.access.connect() as coordinator:
                    self._coordinator = coordinator
                    async for item in follow_events(coordinator, lambda: self.store.cursor):
                        self._on_told(item)
            except (NotAuthenticated, NotPermitted) as error:
                if self.access.renew():
                    continue
                advice = error.next or "give this fleet's token in FLEET_TOKEN"
                self.refusal = f"{self.access.url} does not accept the token: {error} Next: {advice}"
                self.exit(return_code=1)
                return

    def _on_told(self, item: Frame | Waiting) -> None:
        if isinstance(item, Waiting):
            self.board.show_link(Link("lost", self.clock() + timedelta(seconds=item.seconds), item.why))
            return
        if self.board.link.state != "live":
            self._needs.add("detail")
            self._asked_before = None
            self.board.show_link(Link("live"))
        self.store.apply(item, self.clock())
        if isinstance(item, SnapshotFrame) and len(item.jobs) >= MANY:
            self.call_later(give_back)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.set_timer(self._pace.seconds, self._show_changes)

    def _show_changes(self) -> None:
        self._flush_due = False
        if self.board.paused_at is None:
            self.board.show_changes(self.store.take_changes())

    @on(Board.Selected)
    def _on_selected(self, event: Board.Selected) -> None:
        before = self.inspector.job_id
        self._needs |= self.inspector.look_at(event.row)
        self.board.draw_detail()
        if self._needs and (self._asking is None or self.inspector.job_id != before):
            if self._asking is not None:
                self._asking.stop()
            # One that changes all the time is asked about once a second, another one as soon as the cursor rests.
            rest = self._asked_at + 1.0 - self._now() if self.inspector.job_id == before else 0.0
            self._asking = self.set_timer(max(self.SETTLE_SECONDS, rest), self._ask)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _ask(self) -> None:
        """Start what the selected job needs; each kind replaces its predecessor."""
        self._asking, self._asked_at = None, self._now()
        self.set_timer(self.PATIENCE_SECONDS, self.inspector.make_do)
        if self._coordinator is None:
            return
        needs, self._needs = self._needs, set()
        if "detail" in needs:
            self.run_worker(self.inspector.load(self._coordinator), group="detail", exclusive=True)
        if "curves" in needs:
            self.run_worker(self.inspector.draw(self._coordinator), group="curves", exclusive=True)
        if "log" in needs:
            self.run_worker(self.inspector.follow(self._coordinator), group="log", exclusive=True)

    @on(Board.Reached)
    def _on_reached(self) -> None:
        before = self.store.earlier
        if before is not None and before != self._asked_before and self._coordinator is not None:
            self._asked_before = before
            self.run_worker(self._go_back(self._coordinator, self.store, before), group="history")

    async def _go_back(self, coordinator: Coordinator, store: Store, before: int) -> None:
        """Events from before the dashboard looked, put in front of those that it saw."""
        try:
            store.put_earlier(before, (await coordinator.history(before, limit=PAGE_EVENTS)).events)
        except FleetError as error:
            self.board.say(f"older events cannot be read: {error}", ok=False)
        else:
            self._flush_soon()

    @on(Board.Compared)
    def _on_compared(self) -> None:
        if self._coordinator is not None:
            self.run_worker(self.board.curves.load(self._coordinator), group="curves of several")

    def _inspected(self) -> None:
        self.board.draw_detail()

    def _text_grew(self, dropped: int) -> None:
        self._dropped += dropped
        if not self._text_due:
            self._text_due = True
            rest = self._text_shown_at + self._pace.seconds - self._now()
            self.set_timer(max(self.GATHER_SECONDS, rest), self._show_text)

    def _show_text(self) -> None:
        self._text_due, self._text_shown_at = False, self._now()
        dropped, self._dropped = self._dropped, 0
        self.board.text_grew(dropped)

    @on(Pager.Turned)
    def _on_attempt_turned(self, event: Pager.Turned) -> None:
        if refusal := self.inspector.turn_to_attempt(event.step):
            self.board.say(refusal, ok=False)
        else:
            self._needs.add("log")
            self._ask()
            self.board.draw_detail()

    @on(Pager.Saved)
    def _on_saved(self, event: Pager.Saved) -> None:
        self.run_worker(self._save(event.whole), group="save", exclusive=True)

    async def _save(self, whole: bool) -> None:
        row, coordinator = self.board.selected, self._coordinator
        if row is None or coordinator is None:
            return
        chosen = self.inspector.chosen
        path = free_path(row.job.name, chosen.number if chosen else row.job.attempts)
        try:
            if whole:
                stream = whole_log(coordinator, row.job.job_id, chosen.attempt if chosen else None)
                size = await write_pieces(path, stream)
            else:
                size = write_lines(path, self.board.pager.shown)
        except (OSError, FleetError) as error:
            self.board.say(f"{path} was not saved: {error}", ok=False)
        else:
            self.board.say(f"saved {size:,} bytes as {path}")

    @on(Board.Ordered)
    def _on_ordered(self, event: Board.Ordered) -> None:
        """Ask before anything is changed; the ids are those of this moment, whatever moves meanwhile."""
        order = event.order
        self.push_screen(Confirm(order), lambda yes: self._on_answered(order, bool(yes)))

    def _on_answered(self, order: Order, yes: bool) -> None:
        if not yes:
            self.board.say("nothing was changed")
        elif self._coordinator is not None:
            self.board.say(f"{order.verb} …")
            self.run_worker(self._carry_out(self._coordinator, order), group="orders")

    async def _carry_out(self, coordinator: Coordinator, order: Order) -> None:
        store = self.store
        outcome = await carry_out(coordinator, order)
        for row in outcome.rows:
            store.put(row)
        self.board.say(outcome.sentence, ok=outcome.ok)
        self._flush_soon()
