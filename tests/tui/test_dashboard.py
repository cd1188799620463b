"""Keys and mouse on the running dashboard, against a coordinator whose words the test puts in."""

from __future__ import annotations

import asyncio

import pytest
from textual.events import Key

from fleet_client.errors import NotAuthenticated, Unreachable
from fleet_protocol.errors import Code
from fleet_protocol.events import LiveFrame
from fleet_protocol.jobs import JobView, Progress
from fleet_protocol.metrics import JobMetrics
from fleet_tui.board import Board
from fleet_tui.cells import progress_cell
from fleet_tui.facts import job_facts
from fleet_tui.store import JobRow
from tests.tui.driver import Dashboard, dashboard
from tests.tui.recorded import (
    NOW,
    Recorded,
    attempt_of,
    before,
    events,
    gesture_lab,
    job,
    refusal,
    snapshot,
    worker,
    wrong_state,
)


def many(count: int = 60, status: str = "running") -> list[JobView]:
    return [job(f"job-{number:02}", status, queued_at=before(900 - number)) for number in range(count)]


def telling(*jobs: JobView) -> Recorded:
    told = Recorded()
    told.tell(snapshot(told.hold(*jobs), [worker("pi")]))
    return told


def orders(told: Recorded) -> list[str]:
    return [line for line in told.asked if line.startswith(("cancel", "requeue"))]


async def test_vim_keys_arrows_and_pages_move_the_cursor() -> None:
    async with dashboard(telling(*many())) as shown:
        await shown.until("job-00")
        for keys, name in (
            ("j", "job-01"),
            ("down", "job-02"),
            ("k", "job-01"),
            ("up", "job-00"),
            ("G", "job-59"),
            ("g", "job-00"),
            ("end", "job-59"),
            ("home", "job-00"),
        ):
            await shown.press(keys)
            await shown.until(lambda name=name: shown.at == name)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await shown.press("ctrl+d")
        await shown.until(lambda: shown.at not in ("job-00", "job-01"))
        half = shown.at
        await shown.press("ctrl+u", "pagedown")
        await shown.until(lambda: shown.at > half)
        await shown.press("pageup")
        await shown.until(lambda: shown.at == "job-00")


async def test_keys_typed_faster_than_the_screen_is_drawn_arrive_where_they_belong() -> None:
    async with dashboard(telling(*many(5))) as shown:
        await shown.until("job-00")
        for key in ("3", "1", "slash", *"ob-03"):
            shown.app.post_message(Key(key, key if len(key) == 1 else "/"))
        await shown.until(lambda: shown.names == ["job-03"])
        assert "/ob-03" in shown.text


async def test_a_worker_is_busy_with_what_the_jobs_say() -> None:
    told = telling(job("a", "running", worker="pi"))
    async with dashboard(told) as shown:
        await shown.until("● 1 running")
        await shown.press("3")
        await shown.until("● busy      pi            1/2")
        told.tell(events(job("a", "completed"), first=101))
        await shown.until("○ idle      pi            0/2")


async def test_until_it_is_moved_the_cursor_stays_on_the_most_urgent_row() -> None:
    told = telling(job("a"), job("b"))
    async with dashboard(told) as shown:
        await shown.until(lambda: shown.names == ["a", "b"] and shown.at == "a")
        told.tell(events(job("b", "running"), first=101))
        await shown.until(lambda: shown.names == ["b", "a"] and shown.at == "b")


async def test_cursor_and_reading_position_stay_with_the_job_while_rows_move() -> None:
    told = telling(*many(60, "pending"))
    async with dashboard(told) as shown:
        await shown.until("job-00")
        await shown.press("ctrl+d", "ctrl+d", "ctrl+d", "k", "k")
        await shown.until(lambda: shown.at > "job-10")
        name, line = shown.at, next(at for at, text in enumerate(shown.lines) if text.startswith("▌"))

        urgent = [job(f"urgent-{number}", "running") for number in range(5)]
        told.tell(events(*told.hold(*urgent), first=101))
        await shown.until("● 5 running")
        await shown.pilot.pause()

        assert shown.at == name
        assert shown.lines[line].startswith("▌")


async def test_a_row_that_leaves_hands_the_cursor_to_its_neighbour() -> None:
    told = telling(*(job(name, "failed") for name in "abc"))
    async with dashboard(told) as shown:
        await shown.until("✗ 3")
        await shown.press("2", "j")
        await shown.until("▌ ✗ failed     b")
        told.tell(events(job("b"), first=101))
        await shown.until(lambda: shown.names == ["a", "c", "b"])
        assert shown.at == "c"
        assert "handled: requeued, not over yet  × 1" in shown.text


async def test_progress_is_drawn_as_it_comes() -> None:
    row = job("a", "running")
    told = telling(row)
    async with dashboard(told) as shown:
        for step in (10, 70):
            told.tell(
                LiveFrame(
                    server_time=NOW, progress={row.job_id: Progress(step=step, total=100, phase="train")}
                )
            )
            await shown.until(f"{step}%")


async def test_a_worker_unheard_makes_its_jobs_silent() -> None:
    told = Recorded()
    told.tell(snapshot(told.hold(job("a", "running", worker="pi")), [worker("pi", last_heard_at=before(95))]))
    async with dashboard(told) as shown:
        await shown.until("! silent")


async def test_a_log_grows_without_a_seam_and_follows_until_it_is_scrolled() -> None:
    row = job("a", "running")
    told = telling(row)
    told.written[row.job_id] = b"".join(b"line %d\n" % number for number in range(1, 101))
    told.logs[row.job_id] = asyncio.Queue()
    async with dashboard(told) as shown:
        await shown.until("line 100")
        told.logs[row.job_id].put_nowait(b"line 101\n 10%\r 20%")
        await shown.until(
            lambda: "line 101" in shown.text and " 20%" in shown.text and "10%" not in shown.text
        )

        await shown.press("enter")
        await shown.until(lambda: shown.pager.has_focus)
        await shown.press("k", "k", "k")
        await shown.until("f follows")
        top = shown.pager.scroll_offset.y
        told.logs[row.job_id].put_nowait(b"\nline 102\n" * 40)
        await shown.until(lambda: len(shown.pager.text) > 140)
        assert shown.pager.scroll_offset.y == top

        await shown.press("G")
        await shown.until("following ──")
        told.logs[row.job_id].put_nowait(b"the end\n")
        told.logs[row.job_id].put_nowait(None)
        await shown.until("complete ──")
        await shown.until("the end")
        assert [shown.pager.text[at] for at in range(102)] == [f"line {at}" for at in range(1, 102)] + [
            " 20%"
        ]


async def test_scrolling_down_to_the_end_follows_again() -> None:
    row = job("a", "running")
    told = telling(row)
    told.written[row.job_id] = b"line\n" * 100
    async with dashboard(told) as shown:
        await shown.until(lambda: shown.pager.scroll_offset.y > 0)
        await shown.press("tab")
        await shown.until(lambda: shown.pager.has_focus)
        await shown.press("g")
        await shown.until("of 100 · f follows")
        await shown.press(*["pagedown"] * 8)
        await shown.until("following ──")


async def test_a_new_attempt_has_its_own_log() -> None:
    row = job("a", "running")
    told = telling(row)
    told.written[row.job_id] = b"first attempt\n"
    async with dashboard(told) as shown:
        await shown.until("first attempt")
        again = row.model_copy(update={"attempt": attempt_of("again"), "attempts": 2})
        told.hold(again)
        told.written[row.job_id] = b"second attempt\n"
        told.tell(events(again, first=101))
        await shown.until("second attempt")
        assert "first attempt" not in shown.text


async def test_scrolling_past_jobs_asks_for_no_logs() -> None:
    told = telling(*many(30))
    async with dashboard(told) as shown:
        await shown.until(lambda: any(line.startswith("log of") for line in told.asked))
        shown.app.SETTLE_SECONDS = 1.0  # longer than eight keys take on a busy machine
        await shown.press(*"jjjjjjjj")
        last = job("job-08").job_id
        await shown.until(lambda: f"log of {last} from None" in told.asked)
        assert sum(line.startswith("log of") for line in told.asked) == 2


async def test_why_and_log_change_places() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press("j", "j", "j", "j")
        await shown.until("why it waits ──")
        await shown.press("w")
        await shown.until("── log ──")
        await shown.press("w")
        await shown.until("why it waits ──")


async def test_curves_are_drawn_and_grow() -> None:
    lab = gesture_lab()
    async with dashboard(lab) as shown:
        await shown.until("cnn-oracle")
        await shown.press("j")
        await shown.until("── log ──")
        row = lab.jobs[str(shown.app.board.rows.cursor)]
        attempt = row.attempt or attempt_of(row.name)

        def curve(*values: float) -> JobMetrics:
            points = tuple((step, value, 0.0) for step, value in enumerate(values, 1))
            return JobMetrics(job_id=row.job_id, attempt=attempt, series={"loss": points}, stored=len(values))

        lab.curves[row.job_id] = curve(1.0, 0.5)
        await shown.press("m")
        await shown.until("loss  0.500 at step 2")
        lab.curves[row.job_id] = curve(1.0, 0.5, 0.25)
        lab.tell(LiveFrame(server_time=NOW, metric_points={attempt: 3}))
        await shown.until("loss  0.250 at step 3")
        await shown.press("m")
        await shown.until("── log ──")


def test_an_earlier_trainings_metrics_say_what_they_are() -> None:
    anew = job("mlp", "pending", metrics={"accuracy": {"value": 0.9}})
    [metrics] = [line for line in job_facts(JobRow(anew), None, 80) if line[0][0].startswith("metrics")]
    assert metrics[-1] == ("of an earlier training", "warn")
    left = progress_cell(Progress(step=1, total=4, phase="train", eta_seconds=90), 60)
    assert left[-1][0] == "  1m30s left · train"


async def test_filter_is_live_kept_by_enter_and_dropped_by_escape() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press("slash", *"gru")
        await shown.until(lambda: shown.names == ["gru-lr-too-high", "gru-oracle"])
        await shown.press("enter")
        await shown.until("/gru")
        await shown.press("j")
        await shown.until(lambda: shown.at == "gru-oracle")
        await shown.press("escape")
        await shown.until(lambda: len(shown.names) == 12)
        assert shown.at == "gru-oracle"

        await shown.press("slash", *"nothing-like-it")
        await shown.until("No job passes the filter.")
        await shown.press("escape")
        await shown.until(lambda: len(shown.names) == 12)


async def test_a_filter_that_cannot_be_read_changes_nothing_and_says_why() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press("slash", *"age>0s")
        await shown.until(lambda: len(shown.names) == 12)
        await shown.press("x")
        await shown.until("'0sx' is no number")
        assert len(shown.names) == 12
        await shown.press("q")
        assert shown.app.is_running


async def test_each_list_has_its_own_filter() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press("slash", *"gru", "enter", "3", "slash", *"work", "enter")
        await shown.until(lambda: shown.names == ["workstation"])
        await shown.press("1")
        await shown.until(lambda: shown.names == ["gru-lr-too-high", "gru-oracle"])


async def test_sorting_and_reversing() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press("s")
        await shown.until("sort name")
        assert shown.names == sorted(shown.names)
        await shown.press("S")
        await shown.until("sort name reversed")
        assert shown.names == sorted(shown.names, reverse=True)


async def test_cancel_asks_and_y_does_it() -> None:
    told = telling(job("a", "running"), job("b", "running"))
    async with dashboard(told) as shown:
        await shown.until(lambda: shown.at == "a")
        await shown.press("j", "x")
        await shown.until("Cancel this job?")
        assert orders(told) == []
        await shown.press("y")
        await shown.until("✓ cancelled b")
        await shown.until("⊘ cancelled")
        assert orders(told) == [f"cancel {job('b').job_id}"]


@pytest.mark.parametrize("key", ["n", "escape", "q"])
async def test_everything_else_leaves_it_as_it_is(key: str) -> None:
    told = telling(job("a", "failed"))
    async with dashboard(told) as shown:
        await shown.until("✗ 1")
        await shown.press("r")
        await shown.until("Requeue this job?")
        await shown.press("x", "enter", "space", key)
        await shown.until("nothing was changed")
        assert orders(told) == []
        assert shown.app.is_running


async def test_the_question_is_about_the_jobs_of_the_moment_it_was_put() -> None:
    told = telling(job("a", "running"), job("b", "running"))
    async with dashboard(told) as shown:
        await shown.until(lambda: shown.names == ["a", "b"])
        await shown.press("x")
        await shown.until("Cancel this job?")
        told.tell(events(*told.hold(job("urgent", "running", priority=9)), first=101))
        await shown.until("● 3 running")
        await shown.press("y")
        await shown.until("✓ cancelled a")
        assert orders(told) == [f"cancel {job('a').job_id}"]


async def test_marked_jobs_are_ordered_together_and_the_rest_is_left_out() -> None:
    told = telling(job("a", "failed"), job("b", "failed"), job("c", "completed"))
    async with dashboard(told) as shown:
        await shown.until("✗ 2")
        await shown.press("asterisk", "r")
        await shown.until("Requeue these 2 jobs?")
        await shown.press("y")
        await shown.until("✓ requeued 2 jobs")
        assert sorted(orders(told)) == sorted(f"requeue {job(name).job_id}" for name in "ab")
        await shown.press("backslash", "space")
        await shown.until("\n +○ pending    a")


async def test_a_refusal_is_told_in_the_coordinators_words() -> None:
    told = telling(job("a", "running"))
    told.refusals[job("a").job_id] = wrong_state("a")
    async with dashboard(told) as shown:
        await shown.until("● 1 running")
        await shown.press("x")
        await shown.until("Cancel this job?")
        await shown.press("y")
        await shown.until("✗ a: a is completed already.")


async def test_an_order_that_cannot_apply_is_not_even_asked() -> None:
    told = telling(job("a", "completed"))
    async with dashboard(told) as shown:
        await shown.until("✓ 1")
        await shown.press("x")
        await shown.until("a is completed: only a pending, claimed or running job can be cancelled")
        await shown.press("r")
        await shown.until("only a failed or cancelled job can be requeued")


async def test_a_read_only_token_refuses_with_a_sentence() -> None:
    told = telling(job("a", "running"))
    told.read_only = True
    async with dashboard(told) as shown:
        await shown.until("read-only")
        await shown.press("x")
        await shown.until("orders need the operator's token")
        assert orders(told) == []


async def test_a_restart_keeps_the_cursor_and_goes_on_by_it() -> None:
    told = telling(job("a", "running"), job("b", "running"), job("c", "running"))
    async with dashboard(told) as shown:
        await shown.until(lambda: shown.names == ["a", "b", "c"])
        await shown.press("j")
        told.tell(Unreachable("The connection broke."))
        await shown.until("○ reconnecting in 1s · data 0s old")
        told.tell(events(job("a", "completed"), first=101))
        await shown.until("● live")
        await shown.until(lambda: shown.names == ["b", "c", "a"])

        assert shown.at == "b"
        assert "events after 100" in told.asked


async def test_a_refused_token_ends_the_program_with_a_sentence() -> None:
    told = Recorded()
    told.tell(NotAuthenticated(refusal(Code.NOT_AUTHENTICATED, 401, "This token is not known.")))
    async with dashboard(told) as shown:
        await shown.until(lambda: shown.app.refusal is not None)

    assert shown.app.return_code == 1
    assert "This token is not known." in (shown.app.refusal or "")
    assert "FLEET_TOKEN" in (shown.app.refusal or "")


async def test_a_token_that_appeared_since_is_tried() -> None:
    told = telling(job("a"))
    first = told.moves.get_nowait()
    told.tell(NotAuthenticated(refusal(Code.NOT_AUTHENTICATED, 401, "None given.")), first)
    told.renewed = True
    async with dashboard(told) as shown:
        await shown.until("○ 1 pending")


async def test_the_mouse_selects_opens_and_switches() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        line = next(at for at, text in enumerate(shown.lines) if " lstm-realistic " in text)
        await shown.pilot.click(offset=(20, line))
        await shown.until(lambda: shown.at == "lstm-realistic")
        await shown.pilot.click(offset=(20, line), times=2)
        await shown.until(lambda: shown.app.board.has_class("opened"))
        await shown.press("escape")
        await shown.pilot.click(offset=(shown.lines[2].index("Workers") + 1, 2))
        await shown.until("RTX 3060 12 GiB")


async def test_help_lists_every_live_key() -> None:
    async with dashboard(gesture_lab(), width=80, height=24) as shown:
        await shown.until("cnn-oracle")
        await shown.press("question_mark")
        await shown.until("Keys")
        board = next(screen for screen in shown.app.screen_stack if isinstance(screen, Board))
        for active in board.active_bindings.values():
            assert active.binding.description in shown.text
        assert "regular expression" in shown.text
        await shown.press("escape")
        await shown.until("STATUS")


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_quitting(key: str) -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press(key)
        await shown.until(lambda: not shown.app.is_running)


async def test_what_arrives_while_the_screen_goes_away_does_no_harm() -> None:
    told = telling(job("a", "running"))
    told.written[job("a").job_id] = b"a line\n"
    async with dashboard(told) as shown:
        await shown.until("a line")
        await shown.app.board.remove_children()
        told.logs[job("a").job_id].put_nowait(b"another\n")
        told.tell(events(job("a", "completed"), first=101), Unreachable("Gone."))
        await shown.until(lambda: shown.app.board.link.state == "lost" and len(shown.app.inspector.log) == 2)
        shown.app.board._tick()
        await shown.until(lambda: not shown.app._flush_due and not shown.app._text_due)


async def test_an_idle_dashboard_draws_nothing() -> None:
    async with dashboard(telling(job("a", "completed"))) as shown:
        await shown.until("took 2m12s")
        await shown.until("no log yet")
        await counted_quiet(shown)


async def counted_quiet(shown: Dashboard) -> None:
    """Ticks of the clock while nothing changes refresh no line."""
    refreshed: list[object] = []
    for row in shown.app.board.walk_children():
        row.refresh = lambda *args, **kwargs: refreshed.append(args)  # type: ignore[method-assign,assignment]  # only counted here
    shown.app.board._tick()
    assert refreshed == []
