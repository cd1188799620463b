"""Events from before the dashboard looked, in front of those that it saw: no gap, nothing twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_client.errors import Unreachable
from fleet_protocol.events import Event, EventPage, EventsFrame
from fleet_tui import store as limits
from fleet_tui.store import Store
from tests.tui.driver import dashboard
from tests.tui.recorded import NOW, Recorded, events, job, snapshot, worker


def happened(count: int) -> list[Event]:
    """Numbered from 1, as a coordinator that never restarted would."""
    return [
        Event(event=at, at=NOW, kind=f"kind-{at:03}", actor="operator", job=job("a", version=at))
        for at in range(1, count + 1)
    ]


@pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24)])
async def test_older_events_come_when_the_list_is_read_to_its_end(width: int, height: int) -> None:
    told = Recorded(happened=happened(350))
    told.tell(snapshot(told.hold(job("a", "running")), [worker("pi")], cursor=350))
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("● 1 running")
        assert not any(line.startswith("history") for line in told.asked), "nobody looks at them yet"
        await shown.press("5")
        await shown.until("kind-350")
        assert "5 Events 200" in shown.text
        await shown.press("j", "G")
        await shown.until("kind-151")
        await shown.until("5 Events 350")
        told.tell(events(job("a", "completed"), first=351))
        await shown.until("5 Events 351")
        await shown.press("G")
        await shown.until("kind-001")
        assert [event.event for event in shown.app.store.events] == list(range(1, 352))
        await shown.until(lambda: shown.app.store.earlier is None)
        await shown.press("g", "G")
        assert [line for line in told.asked if line.startswith("history")] == [
            f"history before {at}" for at in (351, 151, 1)
        ]


async def test_a_filter_goes_back_until_it_finds_something() -> None:
    told = Recorded(happened=happened(350))
    told.tell(snapshot([], cursor=350))
    async with dashboard(told) as shown:
        await shown.until("● live")
        await shown.press("5", "slash", *"kind-007")
        await shown.until(lambda: "▌ " in shown.text and "kind-007" in shown.text.split("5 Events")[1])


class Silent(Recorded):
    async def history(self, before: int, *, limit: int = 500) -> EventPage:
        await super().history(before, limit=limit)
        raise Unreachable("No answer.")


async def test_a_history_that_cannot_be_read_is_asked_for_again_when_the_link_is_back() -> None:
    told = Silent()
    told.tell(snapshot([], cursor=350))
    async with dashboard(told) as shown:
        await shown.until("● live")
        await shown.press("5")
        await shown.until("✗ older events cannot be read: No answer.")
        told.tell(events(*told.hold(job("a")), first=351))
        await shown.until("5 Events 1")
        assert told.asked.count("history before 351") == 1
        told.tell(Unreachable("Gone."), snapshot([], cursor=350))
        await shown.until(lambda: told.asked.count("history before 351") == 2)


@given(st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["back", "late", "snapshot"])), max_size=30))
def test_any_mixture_of_old_and_new_leaves_no_gap_and_nothing_twice(moves: list[int | str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "HELD_EVENTS", 12)
        patch.setattr(limits, "MOST_EVENTS", 40)
        store, history = Store(), happened(20)
        store.apply(snapshot([], cursor=20), NOW)
        asked = store.earlier
        for move in moves:
            if move == "snapshot":
                store.apply(snapshot([], cursor=len(history)), NOW)
            elif isinstance(move, int):
                new = happened(len(history) + move)[len(history) :]
                history += new
                store.apply(EventsFrame(cursor=len(history), events=tuple(new)), NOW)
            elif (before := asked if move == "late" else store.earlier) is not None:
                store.put_earlier(before, [event for event in history if event.event < before][-5:])
                asked = store.earlier
            held = [event.event for event in store.events]
            assert held == list(range(len(history) - len(held) + 1, len(history) + 1))
            assert len(held) <= 44
