"""A log's bytes as the lines that a terminal would show last.

What a program draws over (carriage returns, backspaces, cursor up as nested progress bars send it) is folded to its
last state. Broken UTF-8 is replaced; nothing is left that could drive a terminal, save colours where they are kept.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet_protocol.logs import LogHole

HELD_LINES = 32
"""How many of the newest lines a program can go back to."""
LINE_CHARS = 8192
"""A line is broken after this many characters, so that a program that never ends one stays readable."""

_STRING_CHARS = 4096  # of a window title or the like; a longer one is no such thing
_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)"
    r"|(?P<move>[\n\r\x08])"
    r"|(?:\x1b\[|\x9b)(?P<numbers>[0-?]{0,64})[ -/]{0,64}(?P<verb>[@-~])"
    rf"|\x1b[\]PX^_][^\x07\x1b\n]{{0,{_STRING_CHARS}}}(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]{0,64}[0-~]"
    r"|[\x00-\x1f\x7f-\x9f]"
)
_UNFINISHED = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,64}"
    rf"|\x1b[\]PX^_][^\x07\x1b\n]{{0,{_STRING_CHARS}}}\x1b?"
    r"|\x1b[ -/]{0,64})\Z"
)
# Marks that change direction or hide, line separators, and halves of surrogates.
UNPRINTABLE = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


_WHY = {"lost": "the agent could not keep them", "expired": "the coordinator has let them go"}


def missing(hole: LogHole) -> str:
    """The line in the place of what is not there."""
    return f"[fleet: {hole.length} bytes from byte {hole.offset} on are missing: {_WHY[hole.why]}]"


class Fold:
    """Any split of the same bytes gives the same lines.

    `held` lines are kept back because a program may still redraw them. With 0 lines come out at once, until the
    program first goes back to an earlier one; from then on as many are held as it went back over.
    """

    def __init__(self, held: int = HELD_LINES, *, colours: bool = False) -> None:
        self.pending = [""]
        """The lines that are not settled yet, the last of which may be open; never empty."""
        self._held, self._colours = held, colours
        self._at = 0
        self._is_fresh = True  # what is written next takes the place of what the line has
        self._rest = ""
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes, *, is_last: bool = False) -> list[str]:
        """The lines that `data` has settled."""
        text = self._rest + self._decoder.decode(data, is_last)
        unfinished = None if is_last else _UNFINISHED.search(text)
        self._rest = unfinished[0] if unfinished else ""
        settled: list[str] = []
        for token in _TOKEN.finditer(text, 0, len(text) - len(self._rest)):
            if written := token["text"]:
                settled += self._write(written)
            elif token["move"] == "\n":
                settled += self._down(1)
            elif token["move"] == "\r":
                self._is_fresh = True
            elif token["move"] and not self._is_fresh:
                self.pending[self._at] = self.pending[self._at][:-1]
            elif token["verb"]:
                settled += self._obey(token["verb"], token["numbers"], token[0])
        return settled

    def finish(self) -> list[str]:
        """Everything that was held back. Afterwards a new text may begin."""
        settled = self.feed(b"", is_last=True) + self.pending
        if not settled[-1]:
            settled.pop()  # the end of the line before it
        self.pending, self._at, self._is_fresh = [""], 0, True
        return settled

    def _write(self, text: str) -> Iterator[str]:
        text = text if text.isascii() else UNPRINTABLE.sub("", text)
        if not text:
            return
        line = text if self._is_fresh else self.pending[self._at] + text
        self._is_fresh = False
        while len(line) > LINE_CHARS and self._at == len(self.pending) - 1:
            self.pending[self._at], line = line[:LINE_CHARS], line[LINE_CHARS:]
            yield from self._down(1)
            self._is_fresh = False
        self.pending[self._at] = line[:LINE_CHARS]

    def _down(self, lines: int) -> Iterator[str]:
        self._is_fresh = True
        self._at += lines
        self.pending += [""] * (self._at - len(self.pending) + 1)
        surplus = len(self.pending) - 1 - self._held
        if surplus > 0:
            settled = self.pending[:surplus]
            del self.pending[:surplus]
            self._at -= surplus
            yield from settled

    def _obey(self, verb: str, numbers: str, sequence: str) -> Iterator[str]:
        if verb == "m" and self._colours and sequence.isascii():
            self.pending[self._at] = ("" if self._is_fresh else self.pending[self._at]) + sequence
            self._is_fresh = False
        elif verb == "K" and (self._is_fresh or numbers == "2"):
            self.pending[self._at] = ""
        elif verb in "AF":
            self._held = min(max(self._held, _number(numbers)), HELD_LINES)
            self._at, self._is_fresh = max(0, self._at - _number(numbers)), True
        elif verb in "BE":
            yield from self._down(min(_number(numbers), HELD_LINES))


def _number(numbers: str) -> int:
    return int(numbers) if numbers.isdecimal() and 0 < len(numbers) < 4 else 1
