"""The line that tells what came of an order, or why a key did nothing."""

from __future__ import annotations

from textual.timer import Timer

from fleet_tui.widgets.line import Lines

SECONDS = 15.0


class Result(Lines):
    """Shown while it says something; that goes by itself."""

    DEFAULT_CSS = "Result { display: none; }"
    _timer: Timer | None = None

    def say(self, sentence: str, *, ok: bool) -> None:
        self.display = bool(sentence)
        self.show([("✓ " if ok else "✗ ", "good" if ok else "bad"), (sentence, "plain")])
        if self._timer is not None:
            self._timer.stop()
        if sentence:
            self._timer = self.set_timer(SECONDS, lambda: self.say("", ok=True))
