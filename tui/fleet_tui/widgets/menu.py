"""One of several things, chosen by its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual import events
from textual.binding import Binding

from fleet_tui.text import Line, fit, one_line
from fleet_tui.widgets.dialogs import Dialog


class Menu(Dialog):
    """`choices` by key: what each is, and its text. Left otherwise, nothing is `chosen`."""

    BINDINGS = [Binding("escape,q", "dismiss(False)", "close")]

    def __init__(
        self, title: str, choices: Mapping[str, tuple[str, str]], chosen: Callable[[str], None]
    ) -> None:
        self._choices, self._chosen = choices, chosen
        shown: list[Line] = [
            [(fit(key, 3), "accent"), (fit(what, 10), "plain"), (fit(one_line(text), 56), "dim")]
            for key, (what, text) in choices.items()
        ]
        super().__init__([[(title, "strong")], [], *shown])

    def on_key(self, event: events.Key) -> None:
        if event.key in self._choices:
            event.stop()
            self.dismiss(True)
            self._chosen(event.key)
