from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet_protocol.events import Event, EventsFrame, LiveFrame, SnapshotFrame
from fleet_protocol.jobs import JobView, Progress
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import Gauges, WorkerView
from fleet_tui.store import HELD_EVENTS, HELD_GAUGES, JobRow, Store
from tests.tui.recorded import NOW, attempt_of, events, job, snapshot, uuid, worker


def told(*frames: object) -> Store:
    store = Store()
    for frame in frames:
        store.apply(frame, NOW)  # type: ignore[arg-type]  # each line is one kind of frame
    return store


def rows(store: Store) -> dict[str, JobRow]:
    return dict(store.jobs)


def test_a_snapshot_replaces_everything() -> None:
    store = told(
        snapshot([job("old")], [worker("gone", number=9)]), snapshot([job("new")], [worker("pi")], cursor=7)
    )

    assert [row.job.name for row in store.jobs.values()] == ["new"]
    assert [one.name for one in store.workers.values()] == ["pi"]
    assert (store.fleet, store.cursor) == ("gesture-lab", 7)


def test_an_event_replaces_its_row_and_adds_unknown_ones() -> None:
    store = told(snapshot([job("a")]), events(job("a", "running"), job("b"), first=101))

    assert {row.job.name: row.job.status for row in store.jobs.values()} == {"a": "running", "b": "pending"}
    assert store.cursor == 102


def test_an_event_that_is_known_already_changes_nothing() -> None:
    store = told(snapshot([job("a")]), events(job("a", "running"), job("a", "completed"), first=101))
    before = rows(store)
    store.take_changes()

    store.apply(events(job("a", "running"), first=101), NOW)

    assert rows(store) == before
    assert not store.take_changes()


def test_an_actions_answer_is_not_undone_by_an_older_event() -> None:
    store = told(snapshot([job("a", "running")]))
    store.put(job("a", "cancelled", version=105))

    store.apply(events(job("a", "running"), first=103), NOW)

    assert next(iter(store.jobs.values())).job.status is JobStatus.CANCELLED


def test_progress_belongs_to_one_attempt() -> None:
    row = job("a", "running")
    store = told(
        snapshot([row]), LiveFrame(server_time=NOW, progress={row.job_id: Progress(step=3, total=9)})
    )
    assert store.jobs[row.job_id].progress == Progress(step=3, total=9)

    store.apply(events(row, first=101), NOW)
    assert store.jobs[row.job_id].progress == Progress(step=3, total=9)

    store.apply(events(row.model_copy(update={"attempt": attempt_of("another")}), first=102), NOW)
    assert store.jobs[row.job_id].progress is None


def test_why_a_job_waits_is_the_newest_word_until_it_no_longer_waits() -> None:
    row = job("a", reason="no worker")
    store = told(snapshot([row]), LiveFrame(server_time=NOW, waiting={row.job_id: "needs CUDA"}))
    assert store.jobs[row.job_id].reason == "needs CUDA"

    store.apply(LiveFrame(server_time=NOW, waiting={row.job_id: ""}), NOW)
    assert store.jobs[row.job_id].reason == ""

    store.apply(events(job("a", "failed", reason="boom"), first=101), NOW)
    assert store.jobs[row.job_id].reason == "boom"


def test_live_words_about_unknown_rows_are_ignored() -> None:
    frame = LiveFrame(server_time=NOW, progress={job("x").job_id: Progress()}, heard={uuid(9): NOW})
    store = told(snapshot([]), frame)

    assert not store.jobs
    assert not store.workers


def test_heard_moves_a_workers_time_forward_only() -> None:
    pi = worker("pi")
    store = told(snapshot([], [pi]), LiveFrame(server_time=NOW, heard={pi.worker: NOW}))
    assert store.workers[pi.worker].last_heard_at == NOW

    store.apply(LiveFrame(server_time=NOW, heard={pi.worker: NOW - timedelta(seconds=50)}), NOW)
    assert store.workers[pi.worker].last_heard_at == NOW


def test_ages_go_by_the_coordinators_clock() -> None:
    store = Store()
    store.apply(snapshot([]), NOW - timedelta(seconds=30))  # this machine is half a minute behind

    assert store.server_now(NOW - timedelta(seconds=20)) == NOW + timedelta(seconds=10)


def test_changes_name_what_moved_and_are_given_once() -> None:
    row = job("a", "running")
    store = told(snapshot([row, job("b")]))
    store.take_changes()

    store.apply(LiveFrame(server_time=NOW, progress={row.job_id: Progress(step=1)}), NOW)
    changes = store.take_changes()

    assert (changes.jobs, changes.order, changes.workers) == ({row.job_id}, False, False)
    assert not store.take_changes()


NAMES = ("a", "b", "c")
STATUSES = tuple(JobStatus)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """A coordinator's events: job rows and worker rows, ids rising with holes."""
    made: list[Event] = []
    number = 100
    for _ in range(draw(st.integers(0, 25))):
        number += draw(st.integers(1, 3))
        row: JobView | WorkerView
        if draw(st.booleans()):
            row = job(draw(st.sampled_from(NAMES)), draw(st.sampled_from(STATUSES)).value, version=number)
        else:
            row = worker("w", number=draw(st.integers(1, 2)), live=draw(st.booleans()))
        of_job = row if isinstance(row, JobView) else None
        of_worker = row if isinstance(row, WorkerView) else None
        made.append(Event(event=number, at=NOW, kind="changed", actor="test", job=of_job, worker=of_worker))
    return made


def worker_rows(first: tuple[WorkerView, ...], history: list[Event], cursor: int) -> dict[str, WorkerView]:
    """What the events up to `cursor` say of the workers, worked out the plain way."""
    said = [event.worker for event in history if event.worker and event.event <= cursor]
    return {one.worker: one for one in (*first, *said)}


def rows_at(first: SnapshotFrame, history: list[Event], cursor: int) -> SnapshotFrame:
    """How all is at `cursor`, worked out the plain way."""
    said = [event.job for event in history if event.job and event.event <= cursor]
    jobs = {row.job_id: row for row in (*first.jobs, *said)}
    workers = worker_rows(first.workers, history, cursor)
    return snapshot(list(jobs.values()), list(workers.values()), cursor=cursor)


@given(histories(), st.data())
def test_any_way_of_cutting_and_reconnecting_gives_the_same_rows(
    history: list[Event], data: st.DataObject
) -> None:
    start = snapshot([job("a"), job("b", "running")], [worker("w")])
    whole = told(start)
    if history:
        whole.apply(EventsFrame(cursor=history[-1].event, events=tuple(history)), NOW)

    cut = told(start)
    all_seen = True
    while (cut.cursor or 0) < (whole.cursor or 0):
        # A connection by cursor sends what follows it; one that broke may send again what was just sent.
        again = data.draw(st.integers(0, 3))
        first = next(at for at, event in enumerate(history) if event.event > (cut.cursor or 0))
        count = data.draw(st.integers(1, len(history)))
        if data.draw(st.integers(0, 3)) == 0:  # it no longer has what follows: how all is now, in its place
            all_seen = False
            cut.apply(rows_at(start, history, history[min(first + count, len(history)) - 1].event), NOW)
            continue
        for sent in (history[max(0, first - again) : first], history[max(0, first - again) : first + count]):
            if sent:
                cut.apply(EventsFrame(cursor=sent[-1].event, events=tuple(sent)), NOW)
                assert cut.cursor is not None
                assert cut.workers == worker_rows(start.workers, history, cut.cursor)

    assert (cut.jobs, cut.workers, cut.cursor) == (whole.jobs, whole.workers, whole.cursor)
    assert not all_seen or (cut.handled, cut.events) == (whole.handled, whole.events)
    last = {event.job.job_id: event.job for event in history if event.job}
    assert {job_id: cut.jobs[job_id].job for job_id in last} == last


def test_points_and_gauges_are_what_was_last_told() -> None:
    row, box = job("mlp", "running"), worker("pi")
    live = LiveFrame(
        server_time=NOW, metric_points={attempt_of("mlp"): 7}, gauges={box.worker: Gauges(cpu_pct=3)}
    )
    store = told(snapshot([row], [box]), live)
    assert store.jobs[row.job_id].points == 7
    assert store.workers[box.worker].gauges == Gauges(cpu_pct=3)
    store.apply(
        EventsFrame(cursor=99, events=(Event(event=99, at=NOW, kind="x", actor="y", worker=box),)), NOW
    )
    assert store.workers[box.worker].gauges == Gauges(cpu_pct=3), "an event holds none, which is no news"
    store.put(row.model_copy(update={"attempt": attempt_of("again"), "version": 100}))
    assert store.jobs[row.job_id].points == 0


def test_a_requeued_failure_is_remembered_until_it_is_over_also_over_a_snapshot() -> None:
    a, b = job("a", "failed", reason="boom"), job("b", "failed", reason="bang")
    store = told(snapshot([a, b]))
    store.put(job("a", version=101))
    assert [(one.reason, one.at) for one in store.handled.values()] == [("boom", job("a").updated_at)]

    store.apply(snapshot([job("a", "running", version=102), job("b", version=103)]), NOW)
    assert {store.jobs[one].job.name for one in store.handled} == {"a", "b"}
    store.apply(events(job("a", "completed"), first=104), NOW)
    assert {store.jobs[one].job.name for one in store.handled} == {"b"}
    store.apply(snapshot([]), NOW)
    assert not store.handled


def test_the_last_events_are_kept_from_the_snapshot_on() -> None:
    rows = [Event(event=at, at=NOW, kind="changed", actor="x") for at in range(1, HELD_EVENTS + 20)]
    store = told(snapshot([], cursor=10), EventsFrame(cursor=15, events=tuple(rows[10:15])))
    assert [row.event for row in store.events] == list(range(11, 16))
    store.apply(EventsFrame(cursor=len(rows), events=tuple(rows[15:])), NOW)
    assert [row.event for row in store.events] == list(range(20, len(rows) + 1))


def test_the_last_gauges_of_each_worker_are_kept() -> None:
    box = worker("pi", gauges=Gauges(cpu_pct=0))
    store = told(snapshot([], [box, worker("x", number=2)]))
    share = Gauges()
    for percent in range(1, HELD_GAUGES + 50):
        share = Gauges(cpu_pct=percent % 100)
        store.apply(LiveFrame(server_time=NOW, gauges={box.worker: share}), NOW)
    held = store.gauges[box.worker]
    assert (len(held), held[-1], list(store.gauges)) == (HELD_GAUGES, share, [box.worker])
    store.apply(snapshot([], []), NOW)
    assert not store.gauges
