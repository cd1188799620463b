"""The lower half: what is known of the selected row, and its log or why it waits."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from fleet_tui.log import LogText
from fleet_tui.shown import Shown
from fleet_tui.text import Line, joined, line_width
from fleet_tui.widgets.line import Lines
from fleet_tui.widgets.pager import Pager


def ruled(left: Line, right: Line, width: int) -> Line:
    """A thin rule with something written into its left and its right end; nothing without the former."""
    if not left:
        return []
    head: Line = [("── ", "rule"), *left, (" ", "plain")]
    tail: Line = [(" ", "plain"), *right, (" ──", "rule")] if right else []
    if line_width(head) + line_width(tail) > width:
        tail = []
    return [*head, ("─" * max(0, width - line_width(head) - line_width(tail)), "rule"), *tail]


class Detail(Vertical):
    """Title, facts and text of one row; knows nothing of where they come from."""

    DEFAULT_CSS = """
    Detail { height: 1fr; }
    Detail > #facts { padding: 0 0 0 2; }
    Detail > Pager { height: 1fr; padding: 0 0 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.pager = Pager(id="text")
        self.is_of_a_job = False
        self._title, self._facts, self._rule = Lines(id="title"), Lines(id="facts"), Lines(id="rule")

    def compose(self) -> ComposeResult:
        yield from (self._title, self._facts, self._rule, self.pager)

    def show(self, told: Shown, most_facts: int) -> None:
        """A log is followed, unless its reader has scrolled up."""
        facts, text = told.facts[:most_facts], told.text
        self._facts.styles.height = len(facts)
        self._facts.show(*facts)
        self._title.show(ruled(told.title, [(told.name, "dim")] * bool(told.name), self.size.width))
        pager, is_log = self.pager, isinstance(text, LogText)
        if pager.text is not text and pager.text != text:
            pager.show(text, follow=told.at_end)
        shown: Line = [("following" if told.state == "live" else told.state, "dim")] if told.state else []
        if is_log and not pager.following:
            shown = [(f"row {pager.bottom} of {pager.rows} · f follows", "warn")]
        if pager.words:
            shown = joined([(pager.words, "accent")], shown, gap=" · ")
        self._rule.show(ruled([(told.label, "dim")] * bool(told.label), shown, self.size.width))
