"""Lines to agree to."""

from __future__ import annotations

from textual.binding import Binding

from fleet_tui.text import Line
from fleet_tui.widgets.dialogs import Dialog


class Agree(Dialog):
    """`y` says yes where there is something to agree to; everything else that leaves says no."""

    def __init__(self, lines: list[Line], verb: str, refusal: str = "") -> None:
        asks: Line = [("y", "accent"), (f" {verb}   ", "plain"), ("n", "accent"), (" keep as it is", "plain")]
        super().__init__([*lines, [], [(refusal, "dim")] if refusal else asks])
        self._may = not refusal

    BINDINGS = [Binding("y", "agree", "yes"), Binding("n,escape,q", "dismiss(False)", "no")]

    def action_agree(self) -> None:
        if self._may:
            self.dismiss(True)
