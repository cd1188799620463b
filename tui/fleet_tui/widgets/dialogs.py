"""The two screens on top: a question before anything is changed, and the keys."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from fleet_protocol.workers import WorkerView
from fleet_tui.actions import Order, Target
from fleet_tui.cells import status_cell
from fleet_tui.text import Line, fit, one_line
from fleet_tui.widgets.line import Lines

SHOWN = 10


class Dialog(ModalScreen[bool]):
    """Lines in a quiet panel in the middle of the screen."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical { width: 76; max-width: 96%; height: auto; max-height: 100%; padding: 1 2; background: $panel;
                        border-left: heavy $accent; overflow-y: auto; scrollbar-size: 1 1;
                        scrollbar-background: $panel; }
    """

    def __init__(self, lines: list[Line]) -> None:
        super().__init__()
        self._content = lines

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Lines(id="dialog")

    def on_mount(self) -> None:
        shown = self.query_one("#dialog", Lines)
        shown.styles.height = len(self._content)
        shown.show(*self._content)


class Confirm(Dialog):
    """Asks once, for exactly what is in the order. `y` says yes; everything else that leaves says no."""

    BINDINGS = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, order: Order) -> None:
        count = len(order.targets)
        what = f"this {order.kind}" if count == 1 else f"these {count} {order.kind}s"
        lines: list[Line] = [[(f"{order.verb.capitalize()} {what}?", "strong")], []]
        width = min(40, max(len(one_line(target.name)) for target in order.targets))
        lines += [_target_line(target, width) for target in order.targets[:SHOWN]]
        if count > SHOWN:
            lines.append([(f"and {count - SHOWN} more", "dim")])
        lines += [[], [(CONSEQUENCE[order.verb], "dim")], []]
        lines.append(
            [("y", "accent"), (f" {order.verb}   ", "plain"), ("n", "accent"), (" keep as it is", "plain")]
        )
        super().__init__(lines)

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


def _target_line(target: Target, width: int) -> Line:
    name = fit(one_line(target.name), width)
    if isinstance(target, WorkerView):
        running = len(target.running)
        trains = f"  trains {running} job{'s' * (running != 1)}"
        return [(f"{target.worker[:8]}  ", "dim"), (name, "plain"), (trains, "dim")]
    where = f"  on {one_line(target.worker)}" if target.worker and target.status.is_active else ""
    status = status_cell(target.status)
    return [(f"{target.job_id[:8]}  ", "dim"), (f"{name}  ", "plain"), *status, (where, "dim")]


CONSEQUENCE = {
    "cancel": "A running trainer is told to stop. It can be requeued later.",
    "requeue": "Back into the queue, counts of errors at zero.",
    "drain": "What it trains goes on; it gets no new jobs until it is resumed.",
    "resume": "It gets jobs again.",
}


class Help(Dialog):
    """Every key that does something here, taken from the live key map."""

    BINDINGS = [Binding("escape,question_mark,q", "close", "close")]

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        pairs: list[Line] = [[(fit(key, 13), "accent"), (fit(what, 22), "plain")] for key, what in keys]
        half = (len(pairs) + 1) // 2
        nothing: Line = []
        lines: list[Line] = [[("Keys", "strong")]]
        lines += [left + right for left, right in zip_longest(pairs[:half], pairs[half:], fillvalue=nothing)]
        lines += [[], [("Filter", "strong"), ("  all words must be met", "dim")]]
        lines += [[(fit(sample, 24), "accent"), (what, "plain")] for sample, what in FILTERS]
        super().__init__(lines)

    def action_close(self) -> None:
        self.dismiss(False)


FILTERS = (
    ("gbt host-2", "both in name or model, or begins an id"),
    ("state:failed,pending", "either"),
    ("err~out.of.memory", "regular expression"),
    ("age>2h  metric<0.8", "more, less"),
    ("-name:smoke", "not"),
)
