"""What is on the screen, compared as text. `FLEET_WRITE_SCREENS=1 pytest tests/tui` writes the files anew."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from fleet_client.errors import Unreachable
from tests.tui.driver import Dashboard, dashboard
from tests.tui.recorded import Recorded, gesture_lab, job, snapshot, worker

SCREENS = Path(__file__).parent / "screens"
SIZES = [(80, 24), (120, 36)]


def writing() -> bool:
    return bool(os.environ.get("FLEET_WRITE_SCREENS"))


async def same_as(name: str, shown: Dashboard) -> None:
    """What the screen comes to is the stored one; scrollbars and states settle a moment after the words."""
    file = SCREENS / f"{name}.txt"
    if writing():
        await shown.pilot.pause(1)
        file.write_text(shown.text + "\n", encoding="utf-8")
    wanted = file.read_text(encoding="utf-8")
    with suppress(AssertionError):  # the comparison below shows the difference
        await shown.until(lambda: shown.text + "\n" == wanted)
    assert shown.text + "\n" == wanted


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_jobs_with_a_log_below(width: int, height: int) -> None:
    async with dashboard(gesture_lab(), width=width, height=height) as shown:
        await shown.until("cnn-oracle")
        await shown.press("j")
        await shown.until("epoch 24/40")
        await shown.until("attempt 1 of 3")

        await same_as(f"jobs-{width}x{height}", shown)


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_failures_with_the_real_error_and_the_last_lines(width: int, height: int) -> None:
    async with dashboard(gesture_lab(), width=width, height=height) as shown:
        await shown.until("cnn-oracle")
        await shown.press("2")
        await shown.until("raise ValueError")
        await shown.until("complete ──")

        await same_as(f"failures-{width}x{height}", shown)


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_workers(width: int, height: int) -> None:
    async with dashboard(gesture_lab(), width=width, height=height) as shown:
        await shown.until("cnn-oracle")
        await shown.press("3", "j")
        await shown.until("RTX 3060 12 GiB (cuda)")

        await same_as(f"workers-{width}x{height}", shown)


async def test_why_a_job_waits() -> None:
    async with dashboard(gesture_lab()) as shown:
        await shown.until("cnn-oracle")
        await shown.press("j", "j", "j", "j")
        await shown.until("needs CUDA with 24 GiB; has no GPU")

        await same_as("why-120x36", shown)


async def test_equal_errors_under_one_heading() -> None:
    told = Recorded()
    reasons = {"a": "loss is nan at step 3", "b": "KeyError: 'x'", "c": "loss is nan at step 9"}
    told.tell(snapshot(told.hold(*(job(name, "failed", reason=why) for name, why in reasons.items()))))
    async with dashboard(told, width=80, height=24) as shown:
        await shown.until("✗ 3")
        await shown.press("2")
        await shown.until("attempt 1 of 3")

        await same_as("grouped-80x24", shown)


async def test_unreachable_says_so_and_keeps_trying() -> None:
    told = Recorded()
    told.tell(Unreachable("No answer from http://127.0.0.1:8490: connection refused."))
    async with dashboard(told, width=80, height=24) as shown:
        await shown.until("Still trying")
        await same_as("unreachable-80x24", shown)

        told.tell(snapshot(told.hold(job("gbt-a")), [worker("pi")]))
        await shown.until("● live")
        await shown.until("gbt-a")


async def test_an_empty_fleet_says_what_to_do_next() -> None:
    told = Recorded()
    told.tell(snapshot([]))
    async with dashboard(told, width=80, height=24) as shown:
        await shown.until("fleet reload training_manifest.toml")
        await shown.press("3")
        await shown.until("fleet-agent run")
        await shown.press("2")
        await shown.until("No job has failed.")


@pytest.mark.parametrize("size", [(1, 1), (20, 6), (60, 15), (240, 70)])
async def test_any_size_is_drawn(size: tuple[int, int]) -> None:
    async with dashboard(gesture_lab(), width=size[0], height=size[1]) as shown:
        await shown.until(lambda: len(shown.app.store.jobs) > 0)
        for keys in (
            "j",
            "enter",
            "escape",
            "2",
            "3",
            "question_mark",
            "escape",
            "1",
            "x",
            "n",
            "slash",
            "escape",
        ):
            await shown.press(keys)
        await shown.press("n")
        await shown.pilot.resize_terminal(80, 24)
        await shown.until("cnn-oracle")


async def test_nothing_hostile_in_names_reasons_and_logs_is_drawn() -> None:
    told = Recorded()
    evil = "\x1b]52;c;aGk=\x07[@click=app.quit]go[/]\u202e模型"
    row = told.hold(job("x" + evil, "failed", reason="r" + evil, worker="w" + evil))[0]
    told.written[row.job_id] = f"l{evil}\n".encode()
    told.tell(snapshot([row], [worker("w" + evil)]))
    async with dashboard(told) as shown:
        await shown.until("l[@click=app.quit]go[/]模型")
        for view in "123":
            await shown.press(view)
            await shown.until("[@click=app.quit]go[/]模型")
            assert not any(ord(char) < 32 or char == "\u202e" for line in shown.lines for char in line)
