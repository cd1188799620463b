"""Figures and times as people say them, and foreign text made safe for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet_protocol.jobs import Metric, Progress

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` without the control characters by which a job's name or error could drive a terminal."""
    return CONTROL.sub("�", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    return " ".join(printable(text).split())


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def span(length: timedelta) -> str:
    """Two units at most: `8s`, `3m 10s`, `2h 5m`, `4d 1h`."""
    seconds = max(int(length.total_seconds()), 0)
    for size, unit, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size}{unit}" + (f" {rest}{below}" if rest else "")
    return f"{seconds}s"


def ago(then: datetime | None, now: datetime) -> str:
    return "" if then is None else f"{span(now - then)} ago"


def figure(metric: Metric) -> str:
    """`0.861 [0.806, 0.904]`, with its unit if it has one."""
    value = f"{metric.value:.4g}" if abs(metric.value) >= 1000 else f"{metric.value:.3f}"
    if metric.low is not None and metric.high is not None:
        value += f" [{metric.low:.3f}, {metric.high:.3f}]"
    return f"{value} {one_line(metric.unit)}".rstrip()


def headline(metrics: Mapping[str, Metric]) -> str:
    """The first metric by name and figure; nothing where there is none."""
    return next((f"{one_line(name)} {figure(metric)}" for name, metric in metrics.items()), "")


def size(count: int) -> str:
    """`17 B`, `1.4 MiB`."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def how_far(progress: Progress | None) -> str:
    """`42%, 3m 10s left`; the step, or the phase, where no end is known."""
    if progress is None:
        return ""
    if not progress.total:
        return f"step {progress.step}" if progress.step else one_line(progress.phase or "")
    share = f"{min(max(progress.step / progress.total, 0), 1):.0%}"
    if progress.eta_seconds is None:
        return share
    return f"{share}, {span(timedelta(seconds=progress.eta_seconds))} left"


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
