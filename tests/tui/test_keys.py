"""Every key of the live key map does what it says, and a key that is not in these tables makes a test fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from fleet_protocol.metrics import JobMetrics
from tests.tui.driver import Dashboard, dashboard
from tests.tui.recorded import Recorded, attempt_of, before, job, snapshot, worker

SIZES = pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24)])
Effect = tuple[tuple[str, ...], Callable[[Dashboard], bool] | str, tuple[str, ...]]
"""What is pressed before the key, what holds or is read after it, and what is pressed to undo it."""
LAST = "z"


def at(name: str) -> Callable[[Dashboard], bool]:
    return lambda shown: shown.at == name


def away(name: str) -> Callable[[Dashboard], bool]:
    return lambda shown: shown.at not in ("", name)


def view(name: str) -> Callable[[Dashboard], bool]:
    return lambda shown: shown.app.board.views.view == name


def typing(shown: Dashboard) -> bool:
    return shown.app.board._field.has_focus


MOVES: dict[str, Effect] = {
    **dict.fromkeys(("down", "j", "J"), (("g",), at("job-01"), ())),
    **dict.fromkeys(("up", "k", "K"), (("g", "j", "j"), at("job-01"), ())),
    **dict.fromkeys(("home", "g"), (("j",), at("job-00"), ())),
    **dict.fromkeys(("end", "G"), (("g",), at(LAST), ())),
    **dict.fromkeys(("pagedown", "ctrl+f", "ctrl+d"), (("g",), away("job-00"), ("g",))),
    **dict.fromkeys(("pageup", "ctrl+b", "ctrl+u"), (("G",), away(LAST), ("g",))),
}
EVERYWHERE: dict[str, Effect] = {
    **{
        str(number): ((), view(name), ("1",))
        for number, name in enumerate(("jobs", "failures", "workers", "metrics", "events"), 1)
    },
    "slash": ((), typing, ("escape",)),
    "P": ((), "paused 0s", ("P",)),
    "question_mark": ((), "all words must be met", ("question_mark",)),
    "ctrl+p": ((), "Search for commands", ("escape",)),
    "y": ((), "told the terminal to copy the id", ()),
    "Y": ((), "fleet show", ("escape",)),
    "e": ((), "cannot be handed to another program", ()),
    "v": ((), "cannot be handed to another program", ()),
    "tab": ((), lambda shown: shown.pager.has_focus, ("escape",)),
    "escape": (("space",), lambda shown: not shown.app.board.rows.marked, ()),
}
JOBS: dict[str, Effect] = {
    **MOVES,
    **EVERYWHERE,
    "enter": ((), lambda shown: shown.app.board.has_class("opened"), ("escape",)),
    "space": ((), "+1", ("backslash",)),
    "V": ((), "V +1", ("V", "backslash")),
    "asterisk": ((), "+32", ("backslash",)),
    "backslash": (("space",), lambda shown: "+1 " not in shown.text, ()),
    "s": ((), "sort name", ("s",) * 5),
    "S": ((), "sort status reversed", ("S",)),
    "b": ((), "sort status by model", ("b", "b", "b")),
    "w": ((), "Nothing bars it.", ("w",)),
    "m": ((), "── curves ──", ("m",)),
    "x": (("g",), "Cancel this job?", ("n",)),
    "r": (("g",), "only a failed or cancelled job can be requeued", ()),
}
ELSEWHERE: dict[str, dict[str, Effect]] = {
    "2": {"R": ((), "Requeue these 2 jobs?", ("n",))},
    "3": {"D": ((), "Drain this worker?", ("n",)), "U": ((), "takes jobs already", ())},
    "4": {
        "n": ((), "accuracy  2 of 2", ("n",)),
        "L": ((), "logarithmic", ("L",)),
        "o": ((), "smoothed 0.6", ("o", "o", "o")),
        "T": ((), "over time", ("T",)),
    },
    "5": {},
}


def top(shown: Dashboard) -> int:
    return shown.pager.scroll_offset.y


TEXT: dict[str, Effect] = {
    **dict.fromkeys(("down", "j"), (("g",), lambda shown: top(shown) == 1, ())),
    **dict.fromkeys(("up", "k"), (("g", "j", "j"), lambda shown: top(shown) == 1, ())),
    **dict.fromkeys(("right", "l"), (("g",), lambda shown: shown.pager.scroll_offset.x == 8, ("h",))),
    **dict.fromkeys(("left", "h"), (("l", "l"), lambda shown: shown.pager.scroll_offset.x == 8, ("h",))),
    **dict.fromkeys(("home", "g"), (("G",), lambda shown: top(shown) == 0, ())),
    **dict.fromkeys(("end", "G", "f"), (("g",), lambda shown: shown.pager.following, ())),
    **dict.fromkeys(("pagedown", "ctrl+f", "ctrl+d"), (("g",), lambda shown: top(shown) > 1, ())),
    **dict.fromkeys(("pageup", "ctrl+b", "ctrl+u"), (("G",), lambda shown: not shown.pager.following, ())),
    "slash": ((), typing, ("escape",)),
    "n": (("g", "slash", *"15", "enter"), lambda shown: top(shown) == 115, ()),
    "N": (("G",), lambda shown: top(shown) == 159, ()),
    "ampersand": ((), typing, ("escape",)),
    "at": ((), typing, ("escape",)),
    "w": ((), lambda shown: shown.pager.wraps, ("w",)),
    "t": ((), lambda shown: shown.pager.stamps, ("t",)),
    "p": ((), "there is no earlier attempt", ()),
    "P": ((), "there is no later attempt", ()),
    "ctrl+s": ((), "✓ saved", ()),
    "S": ((), "✓ saved 4", ()),
}


def lab() -> Recorded:
    told = Recorded()
    rows = told.hold(*(job(f"job-{at:02}", "running", queued_at=before(900 - at)) for at in range(30)))
    failed = told.hold(
        *(job(name, "failed", reason="loss is nan", queued_at=before(1)) for name in ("y", "z"))
    )
    first = rows[0].job_id
    told.written[first] = b"".join(b"line %3d " % at + b"x" * 200 + b"\n" for at in range(200))
    told.logs[first] = asyncio.Queue()
    curve = ((1, 0.5, 1000.0), (2, 0.25, 1060.0))
    of = attempt_of("job-00")
    told.curves[first] = JobMetrics(job_id=first, attempt=of, series={"loss": curve, "accuracy": curve})
    told.tell(snapshot([*rows, *failed], [worker("pi")]))
    return told


def live(shown: Dashboard) -> set[str]:
    return {key for key, active in shown.app.board.active_bindings.items() if active.enabled}


async def walk(shown: Dashboard, effects: Mapping[str, Effect]) -> None:
    for key, (first, holds, undo) in effects.items():
        await shown.press(*first)
        shown.app.board.say("")
        await shown.press(key)
        try:
            await shown.until(holds if isinstance(holds, str) else partial(holds, shown))
        except AssertionError as error:
            raise AssertionError(f"{key}: {error}") from None
        await shown.press(*undo)


@SIZES
async def test_keys_of_the_lists(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDITOR", "VISUAL", "PAGER"):
        monkeypatch.setenv(name, "true")
    async with dashboard(lab(), width=width, height=height) as shown:
        await shown.until("line 199")
        assert live(shown) - {"q", "ctrl+c"} == JOBS.keys()
        await walk(shown, JOBS)
        for number, effects in ELSEWHERE.items():
            await shown.press(number)
            await shown.until(lambda number=number: shown.app.board.rows.cursor is not None or number == "5")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            assert live(shown) - JOBS.keys() == {*effects, "q", "ctrl+c"}
            await walk(shown, effects)
        await shown.press("q" if height < 30 else "ctrl+c")
        await shown.until(lambda: not shown.app.is_running)


@SIZES
async def test_keys_of_a_text(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    async with dashboard(lab(), width=width, height=height) as shown:
        await shown.until("line 199")
        await shown.press("enter")
        await shown.until(lambda: shown.pager.has_focus)
        assert live(shown) - JOBS.keys() == TEXT.keys() - JOBS.keys() | {"q", "ctrl+c"}
        assert {key for key, _ in shown.pager._bindings} | {"slash"} == TEXT.keys()
        await walk(shown, TEXT)
