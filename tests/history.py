"""The history's ids: dense within one life of a coordinator, which begins with a leap to the clock's microseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise

BEGINNING = (0, datetime.max.replace(tzinfo=UTC))  # nobody leaps where there was nothing


def passed_over(history: Iterable[tuple[int, datetime]]) -> Iterator[int]:
    """The ids before which others are missing, or that come again; `history` is id and time of each event, in order.

    A leap is no gap: it leads to the moment of a start, which is after the event before and not after the next one.
    """
    for (last, ended), (event, at) in pairwise([BEGINNING, *history]):
        is_leap = last < event - 1 and _microseconds(ended) <= event - 1 <= _microseconds(at)
        if event != last + 1 and not is_leap:
            yield event


def _microseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
